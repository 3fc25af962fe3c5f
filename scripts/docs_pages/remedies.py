"""What is behind each error code, and what to do about it. A test holds these tables to the codes that there are."""

from __future__ import annotations

from typing import NamedTuple


class Remedy(NamedTuple):
    what: str
    do: str


OF_RUNS = {
    "bad_spec": Remedy(
        "The spec asks for something that cannot be: an unknown field, a value out of bounds, two "
        "settings that do not "
        "go together. Mostly found before launch; some things only a worker can see.",
        "Change the field that the sentence names; [every field](spec.md) lists bounds. The launch "
        "page marks the line.",
    ),
    "data": Remedy(
        "A data file is missing, lies outside the allowed folders, or has a row that is broken or "
        "whose prompt is too "
        "long; or a library that the data need is not installed.",
        "Mend the file and line that the sentence names, or set `data.on_bad_row: skip`, which "
        "leaves such rows out and "
        "counts them. For folders see `NATLAB_ALLOWED_ROOTS` in [operations](operations.md).",
    ),
    "model": Remedy(
        "The model is no folder that transformers can load, no hub id, or cannot be fetched.",
        "Point `model.path` to a folder that `save_pretrained` wrote. A hub model needs a network on the worker's "
        "machine, or a copy in its Hugging Face cache.",
    ),
    "oom": Remedy(
        "A step did not fit into memory. It was tried again with half the tokens a micro-batch, and that did not fit "
        "either. Or, where the sentence says that it was not in the update's passes, it was mostly the sampling of "
        "completions.",
        "Lower `resources.max_tokens_per_microbatch`, turn on `model.gradient_checkpointing`, take a "
        "smaller budget, or "
        "shorten completions. `natlab plan FILE` says beforehand what a step takes. Sampling takes less with a lower "
        "`rollout.max_batch_size`: so many completions have a cache of keys and values at the same time.",
    ),
    "nan_loss": Remedy(
        "The loss or the gradient's norm was not finite. The weights were left as they were.",
        "Lower `optim.learning_rate` or raise `optim.warmup_steps`; look at the last samples and at `grad_norm` and "
        "`budget/max_weight` just before. The last checkpoint is from before it happened.",
    ),
    "rollout": Remedy(
        "The engine that samples completions failed, or its probabilities are further from the trainer's than rounding "
        "explains: it samples from another model than the one that is trained.",
        "The sentence says which. See [rollouts by vLLM](vllm.md): the server's flags and address, and its own log.",
    ),
    "reward": Remedy(
        "A reward function raised, its process fell over, or it returned no finite number. It never "
        "counts as 0 silently.",
        "The sentence holds the prompt, the completion and the answer: call your function with them.",
    ),
    "checkpoint": Remedy(
        "The run's newest checkpoint is whole, but of another model: it was written under another "
        "`model` section, with other adapters or none. (A damaged one never ends a run: it is put aside "
        "as `damaged-…`, and the one before is taken.)",
        "Go on with the spec that it was written under, or start anew in another folder; on the pages "
        "a clone does that.",
    ),
    "disk": Remedy(
        "The run's folder cannot be written: the disk is full, read-only or gone.",
        "Free space (`natlab gc` removes what nobody needs), then resume from the last checkpoint by "
        "a clone, or launch "
        "again.",
    ),
    "error": Remedy(
        "Something that natlab did not foresee. The run's log has the exception, and `trainer.log` "
        "in its folder where "
        "it was raised.",
        "Report it with both.",
    ),
    "killed": Remedy(
        "It was killed: by `natlab kill`, or its trainer by somebody else's signal. On Linux a "
        "machine that runs out of "
        "memory kills the largest process, which is the trainer.",
        "Not on request? Look at `dmesg` for the kernel's out-of-memory killer, and at the run's System tab.",
    ),
    "crashed": Remedy(
        "The trainer ended by itself without saying why: a segmentation fault, or an error before it could report.",
        "The sentence holds its last lines; `trainer.log` in the run's folder has all of them.",
    ),
    "hung": Remedy(
        "The trainer made no pass through its model and reported nothing for `NATLAB_HANG_S`, and was killed.",
        "If something legitimately takes longer (a model download, a checkpoint on a slow disk), raise it.",
    ),
    "worker_lost": Remedy(
        "The server heard nothing of the run for `NATLAB_LEASE_S`: its worker died, its machine did, or the network "
        "between them. The run went back to the queue and goes on elsewhere.",
        "`natlab workers` says when each was last heard of. Repeatedly? See that the worker reaches "
        "the server, and that "
        "both are of one version.",
    ),
    "worker_left": Remedy(
        "Its worker was told to end while it ran. The run saved what it could and went back to the "
        "queue; that costs no "
        "restart.",
        "Nothing, as long as another worker fits it. `NATLAB_SHUTDOWN_GRACE_S` is the time it has for its checkpoint.",
    ),
    "folder_taken": Remedy(
        "Another trainer still holds the run's folder, on another machine or in another container. Two trainers "
        "never write one folder. The run was given back, which costs no restart, and rests before it is tried again.",
        "End the other one there, or wait: where its lease is over, its own worker ends it as soon as it reaches "
        "the server. See [a second box](second-box.md).",
    ),
}

OF_APIS = {
    "bad_json": Remedy(
        "The body is no JSON, or nests deeper than 64 levels.",
        "Send JSON. A shell eats quotes: put the body into a file and use `curl --data @file.json`.",
    ),
    "unauthorized": Remedy(
        "No token came with the request, or one that this server does not know.",
        "Send `Authorization: Bearer …` with the token in `NATLAB_HOME/token`, or open the link that `natlab link` "
        "prints. From another machine: set `NATLAB_TOKEN_FILE`.",
    ),
    "forbidden": Remedy(
        "The token's role may not do this (a viewer reads, a worker trains), or a browser's request "
        "came from another "
        "site.",
        "Use the operator's token. Behind a proxy: let it keep the `Host` and `Origin` headers.",
    ),
    "not_found": Remedy(
        "No experiment, run, worker, checkpoint or page has that id or address.",
        "Take ids from `natlab ls` or the listings; one that was deleted is gone.",
    ),
    "method_not_allowed": Remedy(
        "That address exists, but not for this method.", "The answer's `Allow` header says which it takes."
    ),
    "slow_body": Remedy(
        "The body did not arrive within 30 seconds.", "Send it at once; see what slows the connection."
    ),
    "too_large": Remedy(
        "The body is longer than 1 MiB.", "A spec needs some kilobytes; data belong into files that it names."
    ),
    "media_type": Remedy("The body is not declared as JSON.", "Send `Content-Type: application/json`."),
    "conflict": Remedy(
        "The state of what you asked about does not allow it.", "Reload: a run's `actions` says what it takes now."
    ),
    "illegal_transition": Remedy(
        "The run's state does not take that action: a finished run cannot be paused, a running one not resumed.",
        "A run's `actions` says what it takes now.",
    ),
    "worker_taken": Remedy(
        "A worker registered under the name of one with another `NATLAB_HOME` that is alive.",
        "Nothing: natlab's worker takes another name by itself. Your own: register by another one.",
    ),
    "not_finished": Remedy(
        "It is still queued or running, and this needs an end: deleting, or a comparison's last word.",
        "Stop it first, or wait.",
    ),
    "stale_attempt": Remedy(
        "A worker spoke for an attempt that is over: the run was given to another. Its trainer is ended.",
        "Nothing: that is how a run is trained once. In your own worker: end the trainer.",
    ),
    "wrong_host": Remedy(
        "The request's `Host` names no host that this server knows, which is how a foreign page "
        "would reach a server on "
        "loopback.",
        "Add the name you use to `NATLAB_ALLOWED_HOSTS`.",
    ),
    "bad_spec": Remedy(
        "A field of the body is unknown or out of bounds; nothing was stored.",
        "`errors` lists every fault with a pointer to it. [Every field](spec.md) with its bounds.",
    ),
    "data": Remedy(
        "A data file that the spec names is missing, broken, or outside the allowed folders. The "
        "server looks where the "
        "worker will.",
        "Correct `data.path`, or widen `NATLAB_ALLOWED_ROOTS`. In containers only what is mounted is there.",
    ),
    "model": Remedy("`model.path` is neither `demo`, a model's folder nor a hub id.", "Correct it."),
    "bad_query": Remedy("A query parameter is unknown or out of bounds.", "See [REST operations](rest-reference.md)."),
    "key_reused": Remedy(
        "The `Idempotency-Key` was used before, for another body or priority.",
        "Use a key of its own for each launch, such as its name and date.",
    ),
    "too_many_requests": Remedy(
        "Changes from one address come faster than `NATLAB_CHANGES_PER_S`.",
        "Wait as `Retry-After` says; natlab's own client does. Reading is not limited.",
    ),
    "queue_full": Remedy(
        "More runs would wait than `NATLAB_MAX_QUEUED`.", "Let some finish, delete some, or raise it."
    ),
    "busy": Remedy(
        "As many live streams are open as the server serves.", "Close pages that nobody looks at, or poll instead."
    ),
    "not_ready": Remedy(
        "A part of the server does not run: the database, Redis or the ingestor; `/readyz` names it.",
        "Its log says why. Just after a start it is only early.",
    ),
    "broker_unavailable": Remedy(
        "Redis cannot be reached, so nothing was stored. Runs that train go on, and what they report arrives later.",
        "Start Redis again, or correct `NATLAB_REDIS_URL`; then send the same request again.",
    ),
    "http": Remedy("The web framework refused the request by itself.", "The sentence is all that is known."),
    "internal": Remedy(
        "The server made a mistake.", "Its log has the exception, with the time of your request. Report it."
    ),
}

OF_STARTS = {
    "settings": Remedy(
        "An environment variable of the server cannot be right.",
        "The sentence names it, its value and the rule; all are in [operations](operations.md#environment-variables).",
    ),
    "start": Remedy(
        "The server lacks something it needs at its start: a database of its own or an older "
        "version, a folder it may "
        "write, a free port.",
        "Do as the sentence says. A database of a newer natlab needs that natlab, or the copy kept beside it.",
    ),
    "setup": Remedy(
        "`natlab up` found the port taken, Redis away, or a package missing.",
        "`natlab doctor` says more; `NATLAB_PORT` chooses another port.",
    ),
    "stack": Remedy(
        "A part of `natlab up` ended by itself, so everything was stopped. Its last lines are shown.",
        "The whole log is in `NATLAB_HOME/logs`. Runs go on from their checkpoints at the next start.",
    ),
    "worker": Remedy(
        "A worker cannot start: a variable is wrong, its folder cannot be written, or Redis refuses it.",
        "Do as the sentence says; `natlab doctor --role worker` looks at the rest.",
    ),
    "backup": Remedy(
        "`natlab backup` found no database, or will not overwrite a file.",
        "Set `NATLAB_HOME` to the server's data folder, and give a new file's name.",
    ),
}

OF_CALLERS = {
    "server_unreachable": Remedy(
        "Nothing answers at the server's address, or no natlab server does.",
        "Start one (`natlab up`), or set `NATLAB_URL`. From another machine the server must listen beyond loopback "
        "(`NATLAB_HOST`).",
    ),
    "server_away": Remedy(
        "A worker gets no answer from the server. Its run trains on, and the worker tries again by itself.",
        "If it lasts: correct `NATLAB_SERVER_URL`, or look at the network between them.",
    ),
    "waited_too_long": Remedy(
        "`wait(timeout_s=…)` came to its end before the experiment did. Nothing was stopped.", "Wait again, or longer."
    ),
    "http_error": Remedy(
        "Something between you and natlab answered: a proxy, or another program on that port.",
        "Look at the address, and at the proxy's own log.",
    ),
}
