"""TensorBoard: an event file in a folder of the run's name, which `tensorboard --logdir` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from client.errors import ClientError
from client.sinks.sink import RunInfo

_STRING = 7  # DT_STRING


class TensorBoardSink:
    """Writes what torch's SummaryWriter would, without torch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: EventFileWriter | None = None

    def begin(self, run: RunInfo) -> None:
        place = self._folder / "_".join(run.name.split("/"))
        if place.exists() and any(place.glob("events.out.tfevents.*")):
            raise ClientError(f"{place} holds events already; remove it, or send to another folder with --dir")
        place.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(place))
        rows = "".join(f"| {name} | {value} |\n" for name, value in run.flat_config().items())
        self._add(Summary(value=[_text("spec", f"| field | value |\n|---|---|\n{rows}")]), 0, None)

    def write(self, values: Mapping[str, float], step: int, time: float) -> None:
        self._add(
            Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in values.items()]), step, time
        )

    def end(self, outcome: str) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, summary: Summary, step: int, time: float | None) -> None:
        assert self._writer is not None, "begin comes first"
        event = Event(step=step, summary=summary)
        if time is not None:
            event.wall_time = time
        self._writer.add_event(event)


def make(directory: Path, project: str) -> TensorBoardSink:
    return TensorBoardSink(directory / project)


def _text(tag: str, words: str) -> Summary.Value:
    """A text for TensorBoard's Text tab, where Markdown is shown."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=_STRING, string_val=[words.encode()], tensor_shape=shape)
    return Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)
