"""What the code never does, whatever it is told: unpickle, call a shell, run code that comes with data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from web.draft import draft_of_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("nat_core", "server", "worker", "web", "client")
MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {
    *("eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("torch.load", "torch.save", "np.load", "numpy.load", "yaml.load", "yaml.unsafe_load"),
}
EXCUSED = {"web/draft.py: yaml.load"}  # by the loader of safe_load, as the test below shows
STARTS = {"subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output"}


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            yield from faults_of_call(node)


def faults_of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in CALLS:
        yield name
    if "shell" in given or given.get("trust_remote_code", "False") != "False":
        yield ast.unparse(node)
    if name in STARTS and (not node.args or isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp)):
        yield ast.unparse(node)  # a command line, or one that is put together, and not a list of arguments
    if name.startswith("AutoModel") and name.endswith(".from_pretrained") and given.get("use_safetensors") != "True":
        yield ast.unparse(node)


def test_no_module_unpickles_calls_a_shell_or_runs_code_that_comes_with_data() -> None:
    files = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    assert len(files) > 150
    found = [f"{path.relative_to(REPOSITORY)}: {fault}" for path in files for fault in faults(path.read_text())]
    assert set(found) == EXCUSED


def test_a_file_that_is_written_on_the_launch_page_makes_no_objects(tmp_path: Path) -> None:
    made = draft_of_yaml(f"name: !!python/object/apply:os.mkdir ['{tmp_path}/made']")
    assert made.faults and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "x = eval(text)",
        "os.system(text)",
        "torch.load(path)",
        "yaml.load(text, Loader)",
        "subprocess.run(argv, shell=True)",
        "subprocess.run('ls ' + folder)",
        "subprocess.Popen(f'ls {folder}')",
        "AutoTokenizer.from_pretrained(path, trust_remote_code=spec.trust)",
        "AutoModelForCausalLM.from_pretrained(path)",
    ],
)
def test_each_of_them_would_be_found(source: str) -> None:
    assert len(list(faults(source))) == 1


def test_what_is_harmless_is_not_taken_for_one() -> None:
    assert list(faults("model.eval(); session.exec(query); subprocess.run([a, b]); yaml.safe_load(text)")) == []
