"""The messages of KEDA's external scaler protocol, package ``externalscaler``.

Names and field numbers are those of KEDA 2.20's ``pkg/scalers/externalscaler/externalscaler.proto``; they are the
contract on the wire. Its optional ``StreamMetricSpec`` is not served: KEDA then asks for the specs as before.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = [
    "SERVICE",
    "GetMetricSpecResponse",
    "GetMetricsRequest",
    "GetMetricsResponse",
    "IsActiveResponse",
    "ScaledObjectRef",
]

_PACKAGE = "externalscaler"
SERVICE = f"{_PACKAGE}.ExternalScaler"
_TYPES = descriptor_pb2.FieldDescriptorProto
_ENTRY = "ScaledObjectRef.ScalerMetadataEntry"

#: Message: (field, number, type, repeated); a type that is no scalar is a message.
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "ScaledObjectRef": (
        ("name", 1, "STRING", False),
        ("namespace", 2, "STRING", False),
        ("scalerMetadata", 3, _ENTRY, True),
    ),
    "IsActiveResponse": (("result", 1, "BOOL", False),),
    "GetMetricSpecResponse": (("metricSpecs", 1, "MetricSpec", True),),
    "MetricSpec": (
        ("metricName", 1, "STRING", False),
        ("targetSize", 2, "INT64", False),
        ("targetSizeFloat", 3, "DOUBLE", False),
    ),
    "GetMetricsRequest": (("scaledObjectRef", 1, "ScaledObjectRef", False), ("metricName", 2, "STRING", False)),
    "GetMetricsResponse": (("metricValues", 1, "MetricValue", True),),
    "MetricValue": (
        ("metricName", 1, "STRING", False),
        ("metricValue", 2, "INT64", False),
        ("metricValueFloat", 3, "DOUBLE", False),
    ),
}


def _add(message: Any, fields: tuple[tuple[str, int, str, bool], ...]) -> None:
    for field, number, kind, repeated in fields:
        label = _TYPES.LABEL_REPEATED if repeated else _TYPES.LABEL_OPTIONAL
        scalar = getattr(_TYPES, f"TYPE_{kind}", None)
        added = message.field.add(name=field, number=number, label=label, type=scalar or _TYPES.TYPE_MESSAGE)
        if scalar is None:
            added.type_name = f".{_PACKAGE}.{kind}"


def _classes(*names: str) -> list[Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tokentide/externalscaler.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        _add(file.message_type.add(name=name), fields)
    # A map is a repeated message of key and value (map<string, string>).
    entry = file.message_type[0].nested_type.add(name="ScalerMetadataEntry")
    _add(entry, (("key", 1, "STRING", False), ("value", 2, "STRING", False)))
    entry.options.map_entry = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in names]


ScaledObjectRef, IsActiveResponse, GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse = _classes(
    "ScaledObjectRef", "IsActiveResponse", "GetMetricSpecResponse", "GetMetricsRequest", "GetMetricsResponse"
)
