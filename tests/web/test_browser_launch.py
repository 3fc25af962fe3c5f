"""The launch page in a real Chromium: form and file in step, messages beside their fields, nothing typed lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, Page, Route, expect

from server.main import create_app
from server.settings import Settings
from tests.server.support import served
from tests.web.browsing import Site
from tests.web.building import launch, small_spec

pytestmark = pytest.mark.slow


def test_every_message_stands_beside_its_field_and_nothing_typed_is_lost(site: Site, page: Page) -> None:
    before = len(site.store.list_experiments().items)
    page.goto(f"{site.url}/experiments/new")
    rows = page.get_by_test_id("budget-row")
    rows.nth(1).locator('[data-name="fraction"]').fill("1.5")
    page.locator('[data-pointer="/base/steps"]').fill("many")
    page.get_by_label("Kind of data").select_option("jsonl")
    page.locator('[data-pointer="/base/data/path"]:visible').fill("/no/such/rows.jsonl")
    page.get_by_test_id("seeds").fill("0, 1, x")
    page.get_by_test_id("launch-submit").click()
    fraction = rows.nth(1).locator('[data-name="fraction"]')
    expect(rows.nth(1).locator("[data-budget-fault]")).to_contain_text("fraction is 1.5")
    expect(fraction).to_have_attribute("aria-invalid", "true")
    expect(fraction).to_be_focused()
    expect(page.locator('[data-fault="/base/steps"]')).to_contain_text("'many'")
    expect(page.locator('[data-fault="/seeds"]')).to_contain_text("'x'")
    assert fraction.input_value() == "1.5"
    assert page.locator('[data-pointer="/base/steps"]').input_value() == "many"

    # With these mended the missing file is found, and said beside its field.
    fraction.fill("0.5")
    page.locator('[data-pointer="/base/steps"]').fill("4")
    page.get_by_test_id("seeds").fill("0")
    page.get_by_test_id("launch-submit").click()
    expect(page.locator('[data-fault="/base/data/path"]:visible')).to_contain_text("/no/such/rows.jsonl")
    expect(page.locator('[data-fault="/base/steps"]')).to_be_hidden()
    assert len(site.store.list_experiments().items) == before


def test_a_rule_over_a_whole_budget_marks_the_field_that_its_sentence_names(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    row = page.get_by_test_id("budget-row").nth(1)
    row.locator('[data-name="law"]').select_option("uniform")
    row.locator('[data-name="fraction"]').fill("0.25")
    page.get_by_test_id("launch-submit").click()
    expect(row.locator("[data-budget-fault]")).to_contain_text("keeps at least half")
    expect(row.locator('[data-name="fraction"]')).to_be_focused()
    expect(row.locator('[data-name="selector"]')).not_to_have_attribute("aria-invalid", "true")


def test_expert_fields_open_for_their_message(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    page.locator("#expert > summary").click()
    page.locator('[data-pointer="/base/objective/epsilon"]').fill("2")
    page.locator("#expert > summary").click()
    page.get_by_test_id("launch-submit").click()
    expect(page.locator('[data-fault="/base/objective/epsilon"]')).to_be_visible()
    expect(page.locator('[data-pointer="/base/objective/epsilon"]')).to_be_focused()


def test_launching_sends_what_the_form_shows(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    page.locator('[data-pointer="/name"]').fill("By form")
    page.get_by_role("button", name="Remove this budget").last.click()
    page.get_by_test_id("add-budget").click()
    last = page.get_by_test_id("budget-row").last
    last.locator('[data-name="selector"]').select_option("urs")
    last.locator('[data-name="fraction"]').fill("0.25")
    expect(last.locator('[data-name="law"]')).to_be_hidden()
    last.get_by_label("baseline").check()
    page.get_by_role("button", name="3", exact=True).click()
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 3 seeds = 12 runs")
    page.locator('[data-pointer="/base/steps"]').fill("7")
    page.locator("#expert > summary").click()
    page.locator('[data-pointer="/base/objective/loss_type"]').select_option("grpo")
    page.locator('[data-pointer="/tags"]').fill("form, test")
    sent: list[str] = []
    launches = f"{site.url}/api/v1/experiments"
    page.on("request", lambda request: sent.append(request.url) if request.url == launches else None)
    page.get_by_test_id("launch-submit").dblclick()
    page.wait_for_url(re.compile(r"/experiments/exp-\w+$"))
    assert len(sent) == 1
    record = site.store.get_experiment(page.url.rpartition("/")[2])
    spec = record.spec
    assert [budget.label for budget in spec.budgets] == ["full", "rpc · linear · ½", "urs · ½", "urs · ¼"]
    assert (spec.name, spec.baseline, spec.seeds, spec.tags) == ("By form", 3, [0, 1, 2], ["form", "test"])
    assert (spec.base.steps, spec.base.objective.loss_type, spec.base.optim.learning_rate) == (7, "grpo", 1e-4)
    assert len(record.runs) == 12

    # A clone shows the same again.
    page.goto(f"{site.url}/experiments/new?clone={record.id}")
    assert page.get_by_test_id("seeds").input_value() == "0, 1, 2"
    assert page.locator('[data-pointer="/base/objective/loss_type"]').input_value() == "grpo"
    expect(page.get_by_test_id("budget-row").nth(3).get_by_label("baseline")).to_be_checked()


def test_the_form_s_command_takes_the_token_from_the_shell(browser: Browser, page: Page, tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "home", redis_url=f"unix://{tmp_path}/none.sock", token="s3cret"))
    with served(app) as url:
        page.goto(f"{url}/?token=s3cret")
        page.goto(f"{url}/experiments/new")
        command = page.locator("[data-command=curl] pre")
        start = f"curl -X POST {url}/api/v1/experiments \\\n  -H 'Content-Type: application/json' \\\n"
        wanted = start + '  -H "Authorization: Bearer ${NATLAB_TOKEN:-$(cat .natlab/token)}" \\\n  -d \'{'
        expect(command).to_contain_text('"seeds"')
        assert (command.text_content() or "").startswith(wanted)
        assert "s3cret" not in page.content()


def test_a_queue_that_is_away_is_said_and_nothing_is_stored(browser: Browser, page: Page, tmp_path: Path) -> None:
    app = create_app(Settings(home=tmp_path / "home", redis_url=f"unix://{tmp_path}/none.sock"))
    with served(app) as url:
        page.goto(f"{url}/experiments")
        expect(page.get_by_test_id("empty")).to_contain_text("curl -X POST")
        page.goto(f"{url}/experiments/new")
        page.locator('[data-pointer="/name"]').fill("Kept")
        page.get_by_test_id("launch-submit").click()
        banner = page.locator("#form-faults")
        expect(banner).to_contain_text("the queue cannot be reached", timeout=30_000)
        expect(banner).to_be_focused()
        assert page.locator('[data-pointer="/name"]').input_value() == "Kept"
        expect(page.get_by_test_id("launch-submit")).to_be_enabled()
        assert app.state.store.list_experiments().items == []


# --- the file ----------------------------------------------------------------------------------------


def rewrite(page: Page, old: str, new: str) -> None:
    """Type the file anew with one thing changed."""
    file = page.locator("#yaml")
    text = file.input_value()
    assert old in text
    file.fill(text.replace(old, new))


def test_what_is_typed_in_the_file_stands_in_the_form_and_the_other_way_round(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    rewrite(page, "steps: 60", "steps: 6  # a comment is kept")
    expect(page.locator('[data-pointer="/base/steps"]')).to_have_value("6")
    rewrite(page, "seeds:\n- 0", "seeds: [3, 4]")
    expect(page.get_by_test_id("seeds")).to_have_value("3, 4")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 2 seeds = 8 runs")
    expect(page.get_by_test_id("grid").locator("thead th")).to_have_text(["Budget", "seed 3", "seed 4"])
    rewrite(page, "- selector: truncate\n  fraction: 0.5", "- selector: urs\n  fraction: 0.25")
    expect(page.get_by_test_id("budget-row").nth(3).locator('[data-name="fraction"]')).to_have_value("0.25")
    assert "# a comment is kept" in page.locator("#yaml").input_value()
    page.locator("#expert > summary").click()
    page.locator('[data-pointer="/base/objective/beta"]').fill("0.01")
    expect(page.locator("#yaml")).to_have_value(re.compile("beta: 0.01"))
    expect(page.locator("[data-command=natlab] pre")).to_contain_text("natlab launch experiment.yaml")
    page.get_by_test_id("launch-submit").click()
    page.wait_for_url(re.compile(r"/experiments/exp-\w+$"))
    spec = site.store.get_experiment(page.url.rpartition("/")[2]).spec
    assert (spec.base.steps, spec.seeds, spec.base.objective.beta) == (6, [3, 4], 0.01)
    assert [budget.label for budget in spec.budgets] == ["full", "rpc · linear · ½", "urs · ½", "urs · ¼"]


REWARD = """  reward:
    type: sum
    parts:
    - reward: {type: math_verify, anchored: false}
    - {weight: 0.1, reward: {type: format, pattern: '####'}}
  evaluation:
    sets:
      shorter: {data: {type: demo_arithmetic, min_operations: 2, max_operations: 3}, num_prompts: 8}
"""


def test_a_file_with_rewards_and_sets_fills_the_form_and_is_cloned_whole(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    file = page.locator("#yaml")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    text = re.sub(r"  evaluation:\n(    .*\n)+", "", file.input_value())
    file.fill(re.sub(r"  reward:\n(    .*\n)+", lambda _: REWARD, text))
    parts = page.locator('[data-list="/base/reward/parts"] [data-item]')
    expect(parts).to_have_count(2)
    expect(parts.nth(1).locator('[data-pointer="/reward/pattern"]:visible')).to_have_value("####")
    expect(parts.nth(1).locator('[data-pointer="/weight"]')).to_have_value("0.1")
    expect(page.locator("[data-key]")).to_have_value("shorter")
    page.locator('[data-pointer="/name"]').fill("By other rewards")
    expect(file).to_have_value(re.compile("name: By other rewards"))
    page.get_by_test_id("launch-submit").click()
    page.wait_for_url(re.compile(r"/experiments/exp-\w+$"))
    record = site.store.get_experiment(page.url.rpartition("/")[2])
    reward, sets = record.spec.base.reward, record.spec.base.evaluation.sets
    assert reward.model_dump(mode="json") == {
        "type": "sum",
        "parts": [
            {"weight": 1.0, "reward": {"type": "math_verify", "anchored": False, "timeout_s": 10.0}},
            {"weight": 0.1, "reward": {"type": "format", "pattern": "####", "timeout_s": 10.0}},
        ],
    }
    assert (sets["shorter"].data.type, sets["shorter"].reward, sets["shorter"].num_prompts) == (
        "demo_arithmetic",
        None,
        8,
    )

    # A clone of it has them, too, and marks what is changed in them.
    page.goto(f"{site.url}/experiments/new?clone={record.id}")
    expect(parts).to_have_count(2)
    expect(page.locator("#changes")).to_have_text("nothing changed yet")
    page.locator('[data-pointer="/base/steps"]').fill("9")
    expect(file).to_have_value(re.compile("steps: 9"))
    expect(file).to_have_value(re.compile("anchored: false"))
    parts.nth(0).get_by_label("Weight").fill("2")
    expect(page.locator("#changes")).to_have_text("2 changes")
    page.get_by_role("button", name="Remove this set").click()
    expect(page.locator("[data-list-was]:visible")).to_have_text("Taken out: shorter.")
    expect(file).not_to_have_value(re.compile("shorter"))


def test_words_for_the_template_are_written_in_the_form_as_in_the_file(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    rewrite(page, "    path: demo\n", "    path: demo\n    chat_template: true\n    lora: {r: 8}\n")
    page.locator("#expert > summary").click()
    expect(page.locator('[data-pointer="/base/model/lora/r"]')).to_have_value("8")
    page.get_by_label("chat_template_kwargs").fill("{enable_thinking: false}")
    file = page.locator("#yaml")
    expect(file).to_have_value(re.compile(r"chat_template_kwargs:\n\s+enable_thinking: false"))
    expect(file).to_have_value(re.compile(r"lora:\n\s+r: 8"))
    expect(page.locator("[data-command=curl] pre")).to_contain_text('"enable_thinking": false')
    page.get_by_label("chat_template_kwargs").fill("thinking")
    expect(page.locator("#cost-table")).to_have_class("stale")  # sent as it stands: the server says what is wrong
    page.get_by_test_id("launch-submit").click()
    expect(page.locator('[data-fault="/base/model/chat_template_kwargs"]')).to_contain_text("'thinking'")


def test_data_rewards_and_sets_are_chosen_in_the_form(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    file = page.locator("#yaml")
    page.get_by_label("Kind of data").select_option("reasoning_gym")
    page.get_by_label("task", exact=True).fill("chain_sum")
    page.get_by_label("config", exact=True).fill("{max_terms: 3}")
    page.get_by_label("Kind of reward").select_option("sum")  # starts with one part
    parts = page.locator('[data-list="/base/reward/parts"] [data-item]')
    expect(parts).to_have_count(1)
    parts.nth(0).get_by_label("Reward").select_option("reasoning_gym")
    page.get_by_role("button", name="Add a part").click()
    parts.nth(1).get_by_label("Reward").select_option("length")
    parts.nth(1).get_by_label("Weight").fill("0.2")
    parts.nth(1).get_by_label("free").fill("20")
    parts.nth(1).get_by_label("limit").fill("10")
    page.get_by_role("button", name="Add a set").click()
    page.get_by_label("Name", exact=True).fill("Bad Name")
    page.get_by_test_id("launch-submit").click()

    # Every message stands in the row that it is about.
    expect(parts.nth(1).locator(".fault:visible")).to_contain_text("reward.free is 20")
    fault = page.locator('[data-list="/base/evaluation/sets"] [data-item] .fault:visible')
    expect(fault).to_contain_text("Bad Name")
    expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "true")
    parts.nth(1).get_by_label("free").fill("5")
    page.get_by_label("Name", exact=True).fill("easy")
    page.locator('[data-list="/base/evaluation/sets"]').get_by_label("Data", exact=True).select_option("reasoning_gym")
    page.locator('[data-list="/base/evaluation/sets"]').get_by_label("task").fill("basic_arithmetic")
    expect(file).to_have_value(re.compile(r"sets:\n\s+easy:"))
    expect(file).to_have_value(re.compile("max_terms: 3"))
    expect(page.locator("[data-command=curl] pre")).to_contain_text("basic_arithmetic")
    text = file.input_value()

    # What the file says is what the form said.
    file.fill(text + "\n")
    expect(page.locator("#yaml-broken")).to_be_hidden()
    expect(parts).to_have_count(2)
    expect(parts.nth(1).get_by_label("limit")).to_have_value("10")
    page.locator('[data-pointer="/name"]').fill("Once more")
    expect(file).to_have_value(text.replace(re.search("name: (.*)", text)[1], "Once more"))  # type: ignore[index]


def test_two_sets_of_one_name_are_refused_and_none_is_lost(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    for _ in range(2):
        page.get_by_role("button", name="Add a set").click()
        page.get_by_label("Name", exact=True).last.fill("same")
    page.get_by_test_id("launch-submit").click()
    rows = page.locator('[data-list="/base/evaluation/sets"] [data-item]')
    expect(rows.nth(1).locator(".fault:visible")).to_contain_text("same (again)")
    expect(rows.nth(0).locator(".fault:visible")).to_have_count(0)


# --- both at once --------------------------------------------------------------------------------------


def test_a_step_in_the_form_takes_the_file_s_last_change_with_it(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    typed = page.locator("#yaml").input_value().replace("steps: 60", "steps: 6").replace("seeds:\n- 0", "seeds: [3, 4]")
    # All in one go, so that no time passes between the letter in the file and the press of the button.
    page.evaluate(
        """text => {
          const file = document.getElementById("yaml");
          file.value = text;
          file.dispatchEvent(new Event("input", { bubbles: true }));
          document.getElementById("add-shares").value = "0.25";
          document.getElementById("add-budget").click();
        }""",
        typed,
    )
    expect(page.get_by_test_id("plan")).to_have_text("5 budgets × 2 seeds = 10 runs")
    expect(page.locator('[data-pointer="/base/steps"]')).to_have_value("6")
    expect(page.locator("#yaml")).to_have_value(re.compile(r"steps: 6\n"))
    expect(page.locator("#yaml")).to_have_value(re.compile("fraction: 0.25"))


def test_what_is_typed_in_the_form_outlives_the_file_s_change(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    page.evaluate(
        """() => {
          const type = (control, text) => {
            control.value = text;
            control.dispatchEvent(new Event("input", { bubbles: true }));
          };
          const file = document.getElementById("yaml");
          type(file, file.value.replace("steps: 60", "steps: 6"));
          type(document.querySelector('[data-pointer="/name"]'), "Typed at once");
          type(document.querySelectorAll('#budgets [data-name="fraction"]')[1], "0.75");
        }"""
    )
    expect(page.locator("#yaml")).to_have_value(re.compile("name: Typed at once"))
    expect(page.locator("#yaml")).to_have_value(re.compile("fraction: 0.75"))
    expect(page.locator("#yaml")).to_have_value(re.compile(r"steps: 6\n"))
    expect(page.locator('[data-pointer="/base/steps"]')).to_have_value("6")
    expect(page.get_by_test_id("budget-row").nth(1).locator('[data-name="fraction"]')).to_have_value("0.75")


def test_a_step_waits_for_a_file_that_cannot_be_read(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    page.evaluate(
        """() => {
          const file = document.getElementById("yaml");
          file.value = file.value.replace("steps: 60", "steps: [6");
          file.dispatchEvent(new Event("input", { bubbles: true }));
          document.getElementById("add-budget").click();
        }"""
    )
    expect(page.locator("#yaml-broken")).to_be_visible()
    expect(page.locator("#yaml")).to_be_focused()
    assert "steps: [6" in page.locator("#yaml").input_value()
    expect(page.get_by_test_id("budget-row")).to_have_count(4)
    rewrite(page, "steps: [6", "steps: 6")
    expect(page.locator('[data-pointer="/base/steps"]')).to_have_value("6")


def test_a_broken_file_says_where_and_keeps_both_sides(site: Site, page: Page) -> None:
    before = len(site.store.list_experiments().items)
    page.goto(f"{site.url}/experiments/new")
    page.locator('[data-pointer="/name"]').fill("Mine")
    file, faults = page.locator("#yaml"), page.locator("#yaml-faults li")
    expect(file).to_have_value(re.compile("name: Mine"))
    rewrite(page, "  steps: 60", "  stepz: 60")
    line = file.input_value().split("\n").index("  stepz: 60") + 1
    expect(faults).to_have_text(
        [f"line {line}: base.stepz is not a field natlab knows; remove it or correct its spelling"]
    )
    page.get_by_test_id("launch-submit").click()
    expect(file).to_be_focused()
    assert "stepz" in file.input_value() and len(site.store.list_experiments().items) == before
    rewrite(page, "  stepz: 60", "  steps: [60")
    expect(faults).to_have_text([re.compile(r"^line \d+: this is not valid YAML")])
    page.get_by_role("button", name="take the form’s version back").click()
    expect(page.locator("#yaml-broken")).to_be_hidden()
    expect(file).to_have_value(re.compile("name: Mine"))
    expect(page.locator('[data-pointer="/name"]')).to_be_editable()


def test_budgets_are_added_by_their_shares(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    page.locator("#add-selector").select_option("completions")
    page.locator("#add-shares").fill("0.75, 0.25")
    page.get_by_test_id("add-budget").click()
    expect(page.get_by_test_id("plan")).to_have_text("6 budgets × 1 seed = 6 runs")
    labels = page.get_by_test_id("grid").locator("tbody th")
    expect(labels.nth(4)).to_contain_text("completions")
    expect(labels.nth(5)).to_contain_text("¼")


def test_a_clone_marks_what_it_changes(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new?clone={site.finished.id}")
    changes = page.locator("#changes")
    expect(changes).to_have_text("nothing changed yet")
    expect(page.get_by_test_id("grid").locator("tbody tr")).to_have_count(3)
    steps = page.locator('[data-pointer="/base/steps"]')
    steps.fill("99")
    expect(page.locator(".was:visible")).to_have_text(["was 12"])
    expect(changes).to_have_text("1 change")
    page.get_by_role("button", name="Remove this budget").last.click()
    expect(page.locator("#budgets-was")).to_have_text("Taken out: truncate · ½.")
    expect(changes).to_have_text("2 changes")
    steps.fill("12")
    expect(changes).to_have_text("1 change")
    page.get_by_test_id("budget-row").nth(1).get_by_label("baseline").check()
    expect(page.locator("#budgets-was")).to_have_text("Taken out: truncate · ½. The baseline was full.")


def test_a_number_that_is_only_written_otherwise_is_no_change(site: Site, page: Page) -> None:
    spec = small_spec("Slowly")
    optim = spec.base.optim.model_copy(update={"learning_rate": 5e-06})
    record = launch(site.store, spec.model_copy(update={"base": spec.base.model_copy(update={"optim": optim})}))
    page.goto(f"{site.url}/experiments/new?clone={record.id}")
    expect(page.locator("#changes")).to_have_text("nothing changed yet")
    rewrite(page, "name: Slowly", "name: More slowly")  # the form is filled anew, by another hand than the server's
    expect(page.locator('[data-pointer="/name"]')).to_have_value("More slowly")
    expect(page.locator("#changes")).to_have_text("1 change")
    page.locator('[data-pointer="/base/optim/learning_rate"]').fill("0.0000050")
    expect(page.get_by_test_id("plan")).to_have_text("3 budgets × 1 seed = 3 runs")
    expect(page.locator("#changes")).to_have_text("1 change")
    page.locator('[data-pointer="/base/optim/learning_rate"]').fill("6e-6")
    expect(page.locator("#changes")).to_have_text("2 changes")


def test_what_cannot_be_seen_in_a_text_goes_from_the_file_through_the_form_and_back(site: Site, page: Page) -> None:
    """A tab between columns, spaces at the ends of a column's name, a pattern of two lines."""
    page.goto(f"{site.url}/experiments/new")
    expect(page.get_by_test_id("plan")).to_have_text("4 budgets × 1 seed = 4 runs")
    spec = yaml.safe_load(page.locator("#yaml").input_value())
    data = {"type": "csv", "path": "/data/rows.tsv", "delimiter": "\t", "prompt_field": " question"}
    reward = {"type": "exact_match", "answer_pattern": "\nAnswer:\n(.*) "}
    spec["base"] |= {"data": data, "reward": reward}
    page.locator("#yaml").fill(yaml.safe_dump(spec))
    delimiter = page.locator('[data-pointer="/base/data/delimiter"]:visible')
    expect(delimiter).to_have_value("\\t")
    page.locator('[data-pointer="/base/steps"]').fill("7")  # now the file is written from the form
    expect(page.locator("#yaml")).to_have_value(re.compile("steps: 7"))
    written = yaml.safe_load(page.locator("#yaml").input_value())["base"]
    assert {key: written["data"][key] for key in data} == data and written["reward"] == reward
    delimiter.fill(";")
    expect(page.locator("#yaml")).to_have_value(re.compile("delimiter: ;"))


# --- launching once, and leaving ------------------------------------------------------------------------


def test_a_launch_whose_answer_was_lost_is_not_made_twice(site: Site, page: Page) -> None:
    launches: list[str] = []

    def lose_the_first(route: Route) -> None:
        launches.append(route.request.headers["idempotency-key"])
        if len(launches) == 1:
            route.fetch()  # it reaches the server, and its answer nobody
            route.abort()
        else:
            route.continue_()

    page.route(f"{site.url}/api/v1/experiments", lose_the_first)
    page.goto(f"{site.url}/experiments/new")
    page.locator('[data-pointer="/name"]').fill("Once")
    page.get_by_test_id("launch-submit").click()
    expect(page.locator("#form-faults")).to_contain_text("is not launched twice")
    page.get_by_test_id("launch-submit").click()
    page.wait_for_url(re.compile(r"/experiments/exp-\w+$"))
    assert [item.name for item in site.store.list_experiments().items].count("Once") == 1
    assert len(launches) == 2 and launches[0] == launches[1] and len(launches[0]) == 32


def test_who_comes_back_to_the_form_can_launch_again(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    page.route(re.compile(r"/experiments/exp-\w+$"), lambda route: route.fulfill(status=204))  # no page: the form stays
    button = page.get_by_test_id("launch-submit")
    with page.expect_response(re.compile(r"/experiments/exp-\w+$")):
        button.click()
    expect(button).to_have_text("Launching…")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(button).to_have_text("Launch")
    expect(button).to_be_enabled()


def test_what_was_typed_is_not_left_behind_without_a_question(site: Site, page: Page) -> None:
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.type))
    page.goto(f"{site.url}/experiments/new")
    page.get_by_role("link", name="Workers").click()
    page.wait_for_url(f"{site.url}/workers")
    assert asked == []  # nothing was typed
    page.goto(f"{site.url}/experiments/new")
    page.locator('[data-pointer="/name"]').click()
    page.keyboard.type("Kept?")
    page.get_by_role("link", name="Workers").click()
    page.wait_for_url(f"{site.url}/workers")
    assert asked == ["beforeunload"]


# --- what it is expected to cost ----------------------------------------------------------------------


def test_the_plan_follows_the_form_the_file_and_what_it_is_reckoned_with(site: Site, page: Page) -> None:
    site.store.register_worker("tiny", "tiny", {"memory_gib": 0.004})
    page.goto(f"{site.url}/experiments/new")
    rows = page.get_by_test_id("plan-table").locator("tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text("100%")
    before = rows.nth(1).inner_text()
    page.get_by_test_id("budget-row").nth(1).locator('[data-name="fraction"]').fill("0.25")
    expect(rows.nth(1)).to_contain_text("rpc · linear · ¼")
    assert rows.nth(1).inner_text() != before
    rewrite(page, "num_prompts: 16", "num_prompts: 32")
    expect(page.get_by_test_id("cost")).to_contain_text("of 19.5k generated")

    # The memory that is there: the largest, or a worker one chooses.
    page.locator("#plan-worker").select_option("tiny")
    expect(page.get_by_test_id("plan-warning")).to_contain_text("No budget fits worker tiny's memory of 0.00400 GiB")
    expect(page.locator("#announce")).to_contain_text("No budget fits worker tiny")
    mean = page.get_by_label("Completion tokens")
    expect(mean).to_have_attribute("placeholder", "76")
    mean.fill("lots")
    expect(page.locator("#plan-completion_tokens-fault")).to_contain_text("'lots'")
    expect(mean).to_have_attribute("aria-invalid", "true")
    mean.fill("40")
    expect(page.locator("#plan-completion_tokens-fault")).to_be_hidden()
    expect(page.get_by_test_id("cost")).to_contain_text("of 10.2k generated")

    # A draft with faults has no plan; what was said last stays, faint.
    page.locator('[data-pointer="/base/steps"]').fill("many")
    expect(page.locator("#cost-table")).to_have_class("stale")
    expect(rows).to_have_count(4)


def test_a_budget_asks_for_a_floor_where_its_law_has_one(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/experiments/new")
    row = page.get_by_test_id("budget-row").nth(1)
    floor = row.locator('[data-name="floor"]')
    expect(floor).to_be_hidden()
    row.locator('[data-name="law"]').select_option("optimal")
    floor.fill("0.4")
    expect(page.locator("#yaml")).to_have_value(re.compile("floor: 0.4"))
    row.locator('[data-name="law"]').select_option("linear")
    expect(floor).to_be_hidden()
    expect(page.locator("#yaml")).not_to_have_value(re.compile("floor"))
    row.locator('[data-name="selector"]').select_option("importance")
    expect(floor).to_be_visible()


# --- before the scripts and the first answer are there -------------------------------------------------


class Held:
    """Requests that wait until they are let go, as on a slow line."""

    def __init__(self, page: Page, pattern: str) -> None:
        self._waiting: list[Route] | None = []
        page.route(pattern, self._take)

    def _take(self, route: Route) -> None:
        if self._waiting is None:
            route.continue_()
        else:
            self._waiting.append(route)

    def let_go(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for route in waiting:
            route.continue_()


def test_what_is_typed_before_the_scripts_are_there_is_kept(site: Site, page: Page) -> None:
    scripts = Held(page, "**/launch_form.js")
    page.goto(f"{site.url}/experiments/new", wait_until="domcontentloaded")
    expect(page.get_by_role("button", name="Add a set")).to_be_disabled()  # else a press would be lost
    expect(page.get_by_test_id("add-budget")).to_be_disabled()
    page.locator('[data-pointer="/name"]').fill("Typed early")
    page.get_by_test_id("budget-row").nth(1).locator('[data-name="fraction"]').fill("0.75")
    page.get_by_test_id("budget-row").nth(1).get_by_label("baseline").check()
    page.get_by_label("Kind of reward").select_option("sum")
    file = page.locator("#yaml")
    rewrite(page, "learning_rate: 0.0001", "learning_rate: 0.0002")
    scripts.let_go()
    expect(page.get_by_test_id("add-budget")).to_be_enabled()
    expect(page.locator('[data-pointer="/base/optim/learning_rate"]')).to_have_value("0.0002")
    expect(file).to_have_value(re.compile("name: Typed early"))
    expect(file).to_have_value(re.compile("learning_rate: 0.0002"))
    expect(file).to_have_value(re.compile("fraction: 0.75"))
    expect(file).to_have_value(re.compile("baseline: 1"))
    expect(file).to_have_value(re.compile("type: sum"))
    expect(page.locator('[data-pointer="/name"]')).to_have_value("Typed early")


def test_a_kind_that_is_chosen_before_the_scripts_are_there_gets_its_first_row(site: Site, page: Page) -> None:
    scripts = Held(page, "**/launch_form.js")
    page.goto(f"{site.url}/experiments/new", wait_until="domcontentloaded")
    page.get_by_label("Kind of reward").select_option("sum")
    scripts.let_go()
    expect(page.locator('[data-list="/base/reward/parts"] [data-item]')).to_have_count(1)
    expect(page.locator("#yaml")).to_have_value(re.compile(r"type: sum\n    parts:"))


def test_a_step_before_the_first_answer_is_kept(site: Site, page: Page) -> None:
    answers = Held(page, "**/experiments/draft")
    page.goto(f"{site.url}/experiments/new")
    page.get_by_role("button", name="Add a set").click()
    page.get_by_label("Name", exact=True).fill("early")
    page.get_by_role("button", name="3", exact=True).click()
    page.locator("#add-shares").fill("0.25")
    page.get_by_test_id("add-budget").click()
    answers.let_go()
    expect(page.get_by_test_id("plan")).to_have_text("5 budgets × 3 seeds = 15 runs")
    expect(page.locator("#yaml")).to_have_value(re.compile(r"sets:\n\s+early:"))
    expect(page.get_by_label("Name", exact=True)).to_have_value("early")
    expect(page.get_by_test_id("budget-row")).to_have_count(5)


def test_a_clone_marks_what_is_changed_before_the_first_answer(site: Site, page: Page) -> None:
    answers = Held(page, "**/experiments/draft")
    page.goto(f"{site.url}/experiments/new?clone={site.finished.id}")
    page.locator('[data-pointer="/base/steps"]').fill("99")
    page.get_by_role("button", name="Remove this budget").last.click()
    answers.let_go()
    expect(page.locator("#changes")).to_have_text("2 changes")
    expect(page.locator('[data-pointer="/base/steps"] ~ .was')).to_have_text("was 12")
    expect(page.locator("#budgets-was")).to_have_text("Taken out: truncate · ½.")
