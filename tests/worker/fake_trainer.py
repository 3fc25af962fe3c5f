"""A trainer in miniature: writes events as the real one does, and misbehaves as FAKE_MODE says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

mode = os.environ.get("FAKE_MODE", "")
step_s = float(os.environ.get("FAKE_STEP_S", "0.02"))
spec = json.loads(Path(sys.argv[1]).read_text())
folder = Path(sys.argv[sys.argv.index("--output") + 1])
assert "--supervised" in sys.argv and "--resume" in sys.argv
resumed = int(os.environ.get("FAKE_RESUMED", "0"))
told_to_stop = threading.Event()
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else lambda *_: told_to_stop.set())
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def die_with_the_worker() -> None:
    sys.stdin.read()
    os._exit(9)


threading.Thread(target=die_with_the_worker, daemon=True).start()
file = (folder / "events.jsonl").open("a")
seq = 0


def emit(type: str, step: int, **fields: Any) -> None:
    global seq
    seq += 1
    file.write(json.dumps({"seq": seq, "time": time.time(), "step": step, "type": type, **fields}) + "\n")
    file.flush()


def end(outcome: str, step: int, code: int, **fields: str) -> None:
    emit("state", step, phase="ended", outcome=outcome, **fields)
    file.close()
    if mode == "slow farewell":
        time.sleep(60)
    sys.exit(code)


(folder / "pid").write_text(str(os.getpid()))
if mode == "family":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (folder / "child_pid").write_text(str(child.pid))
emit("state", resumed, phase="started", hardware={"device": "fake"})
for step in range(resumed + 1, spec["steps"] + 1):
    time.sleep(step_s)
    emit("metrics", step, values={"reward": step / 10, "loss": float("nan") if mode == "nan" else 0.5})
    if told_to_stop.is_set():
        end("stopped", step, 3)
    if mode == "killed" and step == 2:
        print("about to need too much")
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "raises" and step == 2:
        raise RuntimeError("the reward function is wrong")
    if mode == "reports failure" and step == 2:
        end("failed", step, 1, reason="nan_loss", message="the loss was NaN at step 2")
    if mode == "silent end" and step == 2:
        sys.exit(0)
    if mode == "full disk" and step == 2:
        print("no space left")
        sys.exit(4)
    if mode == "torn line" and step == 2:
        file.write('{"seq": 4, "time"')
        file.flush()
        os._exit(1)
end("succeeded", spec["steps"], 0)
