// What every page starts.
import { startActions } from "./actions.js";
import { startCharts } from "./charts.js";
import { startCopy } from "./copy.js";
import { startLive } from "./live.js";
import { startSwitches } from "./switches.js";
import { startTheme } from "./theme.js";

startTheme();
startCopy();
startActions();
startSwitches();
startLive();
startCharts();
if (document.getElementById("launch")) import("./launch_form.js").then((module) => module.startLaunchForm());
if (document.querySelector("[data-tokens]")) import("./tokens.js").then((module) => module.startTokens());
