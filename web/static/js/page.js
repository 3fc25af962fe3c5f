// What every page starts.
import { startActions } from "./actions.js";
import { startAnnotations } from "./annotations.js";
import { startCharts } from "./charts.js";
import { startCopy } from "./copy.js";
import { startKeeping } from "./keep.js";
import { startKeys } from "./keys.js";
import { startLive } from "./live.js";
import { startState } from "./state.js";
import { startSwitches } from "./switches.js";
import { startTables } from "./table.js";
import { startTheme } from "./theme.js";

startTheme();
startState();
startCopy();
startActions();
startAnnotations();
startSwitches();
startTables();
startKeys();
startKeeping();
startLive();
startCharts();
if (document.getElementById("launch")) import("./launch_form.js").then((module) => module.startLaunchForm());
if (document.querySelector("[data-tokens]")) import("./tokens.js").then((module) => module.startTokens());
if (document.getElementById("follow")) import("./log.js").then((module) => module.startLog());
