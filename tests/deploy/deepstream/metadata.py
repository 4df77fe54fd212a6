"""Stand-ins for the metadata of pyds and of pyservicemaker: what the probes touch, and no more.

They behave like the real ones where it matters: pyds has linked lists whose `next` ends with None
or with StopIteration, needs a cast for each element, and gives tensors as addresses;
pyservicemaker has iterators that can be walked once, and tensors behind `as_tensor_output`.
"""

import ctypes
from types import SimpleNamespace

import numpy as np

UNTRACKED = 2**64 - 1
TENSOR_META = object()


class Rect:
    def __init__(self, xyxy):
        self.left, self.top = float(xyxy[0]), float(xyxy[1])
        self.width, self.height = float(xyxy[2] - xyxy[0]), float(xyxy[3] - xyxy[1])

    @property
    def xyxy(self):
        return [self.left, self.top, self.left + self.width, self.top + self.height]


class Hand:
    """An object's own data, whichever binding shows it."""

    def __init__(self, xyxy, *, component=1, class_id=0):
        self.rect_params = Rect(xyxy)
        self.confidence = 0.9
        self.class_id = class_id
        self.unique_component_id = component
        self.object_id = UNTRACKED
        self.output = None


class Link:
    def __init__(self, data, following, *, stops):
        self.data = ("pointer", data)
        self._following = following
        self._stops = stops

    @property
    def next(self):
        if self._following is None and self._stops:
            raise StopIteration
        return self._following


def linked(items, *, stops=False):
    link = None
    for item in reversed(list(items)):
        link = Link(item, link, stops=stops)
    return link


def _cast(pointer):
    kind, data = pointer
    assert kind == "pointer"
    return data


class FakePyds:
    """The functions of pyds that the probes call."""

    NvDsMetaType = SimpleNamespace(NVDSINFER_TENSOR_OUTPUT_META=TENSOR_META)
    NvDsFrameMeta = NvDsObjectMeta = NvDsUserMeta = SimpleNamespace(cast=_cast)
    NvDsInferTensorMeta = SimpleNamespace(cast=_cast)

    @staticmethod
    def get_nvds_LayerInfo(tensor, index):  # noqa: N802 (the name in pyds)
        name, values = tensor.layers[index]
        return SimpleNamespace(layerName=name, buffer=values)

    @staticmethod
    def get_ptr(values):
        return ctypes.addressof(ctypes.c_char.from_buffer(values))


def pyds_batch(number, pts_ns, hands):
    """A NvDsBatchMeta of one frame; a hand's `output` becomes its tensor's metadata."""
    for hand in hands:
        users = [SimpleNamespace(base_meta=SimpleNamespace(meta_type="another"))]
        if hand.output is not None:
            values = np.array(hand.output, np.float32)
            tensor = SimpleNamespace(
                unique_id=4, num_output_layers=1, layers=[("activation_18", values)]
            )
            base = SimpleNamespace(meta_type=TENSOR_META)
            users.append(SimpleNamespace(base_meta=base, user_meta_data=("pointer", tensor)))
        hand.obj_user_meta_list = linked(users, stops=True)
    frame = SimpleNamespace(frame_num=number, buf_pts=pts_ns, obj_meta_list=linked(hands))
    return SimpleNamespace(frame_meta_list=linked([frame], stops=True))


class MakerObject:
    """A view of a Hand, made anew for each walk as pyservicemaker does."""

    def __init__(self, hand):
        object.__setattr__(self, "_hand", hand)

    def __getattr__(self, name):
        return getattr(self._hand, name)

    def __setattr__(self, name, value):
        setattr(self._hand, name, value)

    def user_meta_items(self, kind):
        assert kind == 12
        if self._hand.output is not None:
            layers = {"activation_18": np.array(self._hand.output, np.float32).reshape(-1, 1, 1)}
            tensor = SimpleNamespace(unique_id=4, get_layers=lambda: layers)
            yield SimpleNamespace(as_tensor_output=lambda: tensor)


def maker_batch(number, pts_ns, hands):
    """A BatchMetadata of one frame."""
    frame = SimpleNamespace(
        frame_number=number,
        buffer_pts=pts_ns,
        object_items=iter([MakerObject(hand) for hand in hands]),
    )
    return SimpleNamespace(frame_items=iter([frame]))
