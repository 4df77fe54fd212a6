"""Glue between DeepStream's metadata and deploy.deepstream.margin; `pyds` or `pyservicemaker`.

The two bindings differ in how frames, objects and tensors are reached (linked lists of casts;
plain iterators); `PydsMeta` and `ServiceMakerMeta` give both the same few functions, and `Probes`
does the work. An object's box is `rect_params` (left, top, width, height) in muxer pixels in both.
Sources: deepstream_python_apps (deepstream-ssd-parser for tensors); deepstream test1 of Service
Maker for Python (`BatchMetadataOperator`, `object_items`, `rect_params`).
"""

import ctypes
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List

import numpy as np

from deploy.core.boxes import Detections
from deploy.core.events import GestureEvent
from deploy.core.model_json import ModelInfo
from deploy.deepstream.app_config import DETECTOR_ID, GESTURE_ID
from deploy.deepstream.margin import FrameTime, Margin

NANOSECONDS = 1e9
# NVDSINFER_TENSOR_OUTPUT_META of NvDsMetaType, which Service Maker takes as a number.
TENSOR_OUTPUT_META = 12


class Probes:
    """The two probes: `expand` behind the detector, `restore` behind the classifier.

    meta: PydsMeta or ServiceMakerMeta; emit: is called with each event.
    """

    def __init__(
        self,
        margin: Margin,
        model: ModelInfo,
        meta: Any,
        emit: Callable[[GestureEvent], None],
        *,
        is_live: bool,
    ) -> None:
        """is_live: events carry the time of day, as deploy.run's do; else the time in the file."""
        self._margin = margin
        self._output = next(iter(model.outputs))
        self._num_classes = len(model.classes)
        self._meta = meta
        self._emit = emit
        self._is_live = is_live

    def expand(self, batch: Any) -> None:
        """Put a region in place of each tight box, and the track's number on its object."""
        for frame in self._meta.frames(batch):
            objects = self._hands(frame)
            regions = self._margin.expand(self._time_of(frame), _detections(objects))
            for item, region in zip(objects, regions):
                item.object_id = region.track
                _write_box(item, region.xyxy)

    def restore(self, batch: Any) -> None:
        """Put the tight boxes back, and send the events of the frame."""
        for frame in self._meta.frames(batch):
            probabilities: Dict[int, np.ndarray] = {}
            for item in self._hands(frame):
                tight = self._margin.tight_box(int(item.object_id))
                if tight is None:
                    continue
                _write_box(item, tight)
                for name, values in self._meta.tensors(item, self._num_classes):
                    if name == self._output:
                        probabilities[int(item.object_id)] = values
            for event in self._margin.restore(probabilities):
                self._emit(event)

    def finish(self) -> None:
        """Close the gestures that are open when the source ends."""
        for event in self._margin.finish():
            self._emit(event)

    def _hands(self, frame: Any) -> List[Any]:
        return [
            item
            for item in self._meta.objects(frame)
            if item.unique_component_id == DETECTOR_ID and item.class_id == 0
        ]

    def _time_of(self, frame: Any) -> FrameTime:
        time_s = time.time() if self._is_live else frame.buf_pts / NANOSECONDS
        return FrameTime(int(frame.frame_num), time_s, time.perf_counter())


class PydsMeta:
    """Metadata through pyds (DeepStream 5.0 to 7.1). pyds: the module."""

    def __init__(self, pyds: Any) -> None:
        self._pyds = pyds

    def frames(self, batch: Any) -> Iterator[Any]:
        """Return the frames of a NvDsBatchMeta."""
        return self._list(batch.frame_meta_list, self._pyds.NvDsFrameMeta.cast)

    def objects(self, frame: Any) -> Iterator[Any]:
        """Return the objects of a frame."""
        return self._list(frame.obj_meta_list, self._pyds.NvDsObjectMeta.cast)

    def tensors(self, item: Any, num: int) -> Iterator[Any]:
        """Return name and values (num,) float32, copied, of the classifier's output tensors."""
        pyds = self._pyds
        wanted = pyds.NvDsMetaType.NVDSINFER_TENSOR_OUTPUT_META
        for user in self._list(item.obj_user_meta_list, pyds.NvDsUserMeta.cast):
            if user.base_meta.meta_type != wanted:
                continue
            tensor = pyds.NvDsInferTensorMeta.cast(user.user_meta_data)
            if tensor.unique_id != GESTURE_ID:
                continue
            for index in range(tensor.num_output_layers):
                layer = pyds.get_nvds_LayerInfo(tensor, index)
                address = ctypes.cast(pyds.get_ptr(layer.buffer), ctypes.POINTER(ctypes.c_float))
                yield layer.layerName, np.ctypeslib.as_array(address, shape=(num,)).copy()

    def _list(self, link: Any, cast: Callable[[Any], Any]) -> Iterator[Any]:
        """Walk a GList: pyds ends some with None and some with StopIteration."""
        while link is not None:
            yield cast(link.data)
            try:
                link = link.next
            except StopIteration:
                return


class ServiceMakerFrame:
    """A frame of pyservicemaker under the names that pyds has."""

    def __init__(self, frame: Any) -> None:
        self.items = frame.object_items
        self.frame_num = frame.frame_number
        self.buf_pts = frame.buffer_pts


class ServiceMakerMeta:
    """Metadata through pyservicemaker (DeepStream 7.1 and later).

    to_numpy: makes an array on the CPU of one of its tensors, which speak DLPack.
    """

    def __init__(self, to_numpy: Callable[[Any], np.ndarray]) -> None:
        self._to_numpy = to_numpy

    def frames(self, batch: Any) -> Iterator[ServiceMakerFrame]:
        """Return the frames of a BatchMetadata."""
        return (ServiceMakerFrame(frame) for frame in batch.frame_items)

    def objects(self, frame: ServiceMakerFrame) -> Iterator["ServiceMakerObject"]:
        """Return the objects of a frame; its iterator can be walked once."""
        return (ServiceMakerObject(item) for item in frame.items)

    def tensors(self, item: "ServiceMakerObject", num: int) -> Iterator[Any]:
        """Return name and values (num,) float32, copied, of the classifier's output tensors."""
        for user in item.meta.user_meta_items(TENSOR_OUTPUT_META):
            tensor = user.as_tensor_output()
            if tensor is None or tensor.unique_id != GESTURE_ID:
                continue
            for name, layer in tensor.get_layers().items():
                values = np.array(self._to_numpy(layer), np.float32)
                yield name, values.reshape(-1)[:num]


class ServiceMakerObject:
    """An object of pyservicemaker under the names that pyds has; writing goes through."""

    def __init__(self, meta: Any) -> None:
        self.meta = meta

    @property
    def unique_component_id(self) -> int:
        """Number of the element that found the object."""
        return self.meta.unique_component_id

    @property
    def class_id(self) -> int:
        """Number of its class."""
        return self.meta.class_id

    @property
    def confidence(self) -> float:
        """Of the detection."""
        return self.meta.confidence

    @property
    def rect_params(self) -> Any:
        """Its box."""
        return self.meta.rect_params

    @property
    def object_id(self) -> int:
        """Number of its track."""
        return self.meta.object_id

    @object_id.setter
    def object_id(self, value: int) -> None:
        self.meta.object_id = value


def _detections(objects: Iterable[Any]) -> Detections:
    rows = [
        (rect.left, rect.top, rect.left + rect.width, rect.top + rect.height)
        for rect in (item.rect_params for item in objects)
    ]
    return Detections(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array([item.confidence for item in objects], np.float32),
        np.zeros(len(rows), np.int64),
    )


def _write_box(item: Any, xyxy: np.ndarray) -> None:
    rect = item.rect_params
    rect.left, rect.top = float(xyxy[0]), float(xyxy[1])
    rect.width, rect.height = float(xyxy[2] - xyxy[0]), float(xyxy[3] - xyxy[1])
