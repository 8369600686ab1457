from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_INT16: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_FLOAT64: _ClassVar[DataType]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_LOW: _ClassVar[Priority]

class Hierarchy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HIERARCHY_UNSPECIFIED: _ClassVar[Hierarchy]
    HIERARCHY_GLOBAL: _ClassVar[Hierarchy]
    HIERARCHY_HIERARCHICAL: _ClassVar[Hierarchy]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_INT16: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_FLOAT64: DataType
PRIORITY_UNSPECIFIED: Priority
PRIORITY_LOW: Priority
HIERARCHY_UNSPECIFIED: Hierarchy
HIERARCHY_GLOBAL: Hierarchy
HIERARCHY_HIERARCHICAL: Hierarchy

class Tensor(_message.Message):
    __slots__ = ("data_type", "shape", "data")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    data_type: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class PackOptions(_message.Message):
    __slots__ = ("num_restarts", "noise_min", "noise_max", "seed", "refine", "target_gap")
    NUM_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    NOISE_MIN_FIELD_NUMBER: _ClassVar[int]
    NOISE_MAX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REFINE_FIELD_NUMBER: _ClassVar[int]
    TARGET_GAP_FIELD_NUMBER: _ClassVar[int]
    num_restarts: int
    noise_min: float
    noise_max: float
    seed: int
    refine: bool
    target_gap: float
    def __init__(self, num_restarts: _Optional[int] = ..., noise_min: _Optional[float] = ..., noise_max: _Optional[float] = ..., seed: _Optional[int] = ..., refine: bool = ..., target_gap: _Optional[float] = ...) -> None: ...

class PackRequest(_message.Message):
    __slots__ = ("weight", "num_packs", "options", "priority")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_PACKS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    weight: Tensor
    num_packs: int
    options: PackOptions
    priority: Priority
    def __init__(self, weight: _Optional[_Union[Tensor, _Mapping]] = ..., num_packs: _Optional[int] = ..., options: _Optional[_Union[PackOptions, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class Packing(_message.Message):
    __slots__ = ("pack_index", "rank_in_pack", "max_load", "mean_load", "lower_bound", "winning_restart", "algorithm")
    PACK_INDEX_FIELD_NUMBER: _ClassVar[int]
    RANK_IN_PACK_FIELD_NUMBER: _ClassVar[int]
    MAX_LOAD_FIELD_NUMBER: _ClassVar[int]
    MEAN_LOAD_FIELD_NUMBER: _ClassVar[int]
    LOWER_BOUND_FIELD_NUMBER: _ClassVar[int]
    WINNING_RESTART_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    pack_index: Tensor
    rank_in_pack: Tensor
    max_load: _containers.RepeatedScalarFieldContainer[float]
    mean_load: _containers.RepeatedScalarFieldContainer[float]
    lower_bound: _containers.RepeatedScalarFieldContainer[float]
    winning_restart: _containers.RepeatedScalarFieldContainer[int]
    algorithm: str
    def __init__(self, pack_index: _Optional[_Union[Tensor, _Mapping]] = ..., rank_in_pack: _Optional[_Union[Tensor, _Mapping]] = ..., max_load: _Optional[_Iterable[float]] = ..., mean_load: _Optional[_Iterable[float]] = ..., lower_bound: _Optional[_Iterable[float]] = ..., winning_restart: _Optional[_Iterable[int]] = ..., algorithm: _Optional[str] = ...) -> None: ...

class Execution(_message.Message):
    __slots__ = ("solver", "device", "server_version", "queue_seconds", "solve_seconds", "batch_requests", "batch_rows")
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SOLVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BATCH_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    solver: str
    device: str
    server_version: str
    queue_seconds: float
    solve_seconds: float
    batch_requests: int
    batch_rows: int
    def __init__(self, solver: _Optional[str] = ..., device: _Optional[str] = ..., server_version: _Optional[str] = ..., queue_seconds: _Optional[float] = ..., solve_seconds: _Optional[float] = ..., batch_requests: _Optional[int] = ..., batch_rows: _Optional[int] = ...) -> None: ...

class PackResponse(_message.Message):
    __slots__ = ("packing", "execution")
    PACKING_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    packing: Packing
    execution: Execution
    def __init__(self, packing: _Optional[_Union[Packing, _Mapping]] = ..., execution: _Optional[_Union[Execution, _Mapping]] = ...) -> None: ...

class RebalanceRequest(_message.Message):
    __slots__ = ("load", "num_replicas", "num_gpus", "num_nodes", "num_groups", "hierarchy", "previous", "max_moves", "min_gain", "inactive_gpus", "gpu_speed", "allow_duplicates", "options", "priority")
    LOAD_FIELD_NUMBER: _ClassVar[int]
    NUM_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    NUM_GPUS_FIELD_NUMBER: _ClassVar[int]
    NUM_NODES_FIELD_NUMBER: _ClassVar[int]
    NUM_GROUPS_FIELD_NUMBER: _ClassVar[int]
    HIERARCHY_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    MAX_MOVES_FIELD_NUMBER: _ClassVar[int]
    MIN_GAIN_FIELD_NUMBER: _ClassVar[int]
    INACTIVE_GPUS_FIELD_NUMBER: _ClassVar[int]
    GPU_SPEED_FIELD_NUMBER: _ClassVar[int]
    ALLOW_DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    load: Tensor
    num_replicas: int
    num_gpus: int
    num_nodes: int
    num_groups: int
    hierarchy: Hierarchy
    previous: Tensor
    max_moves: int
    min_gain: float
    inactive_gpus: _containers.RepeatedScalarFieldContainer[int]
    gpu_speed: _containers.RepeatedScalarFieldContainer[float]
    allow_duplicates: bool
    options: PackOptions
    priority: Priority
    def __init__(self, load: _Optional[_Union[Tensor, _Mapping]] = ..., num_replicas: _Optional[int] = ..., num_gpus: _Optional[int] = ..., num_nodes: _Optional[int] = ..., num_groups: _Optional[int] = ..., hierarchy: _Optional[_Union[Hierarchy, str]] = ..., previous: _Optional[_Union[Tensor, _Mapping]] = ..., max_moves: _Optional[int] = ..., min_gain: _Optional[float] = ..., inactive_gpus: _Optional[_Iterable[int]] = ..., gpu_speed: _Optional[_Iterable[float]] = ..., allow_duplicates: bool = ..., options: _Optional[_Union[PackOptions, _Mapping]] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class CurvePoint(_message.Message):
    __slots__ = ("moves", "balancedness")
    MOVES_FIELD_NUMBER: _ClassVar[int]
    BALANCEDNESS_FIELD_NUMBER: _ClassVar[int]
    moves: int
    balancedness: float
    def __init__(self, moves: _Optional[int] = ..., balancedness: _Optional[float] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("physical_to_logical", "balancedness_before", "balancedness_after", "bound", "latest_balancedness_before", "latest_balancedness_after", "latest_bound", "moves", "layer_order", "curve", "hierarchy", "algorithm")
    PHYSICAL_TO_LOGICAL_FIELD_NUMBER: _ClassVar[int]
    BALANCEDNESS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    BALANCEDNESS_AFTER_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    LATEST_BALANCEDNESS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LATEST_BALANCEDNESS_AFTER_FIELD_NUMBER: _ClassVar[int]
    LATEST_BOUND_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    LAYER_ORDER_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    HIERARCHY_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    physical_to_logical: Tensor
    balancedness_before: _containers.RepeatedScalarFieldContainer[float]
    balancedness_after: _containers.RepeatedScalarFieldContainer[float]
    bound: _containers.RepeatedScalarFieldContainer[float]
    latest_balancedness_before: _containers.RepeatedScalarFieldContainer[float]
    latest_balancedness_after: _containers.RepeatedScalarFieldContainer[float]
    latest_bound: _containers.RepeatedScalarFieldContainer[float]
    moves: _containers.RepeatedScalarFieldContainer[int]
    layer_order: _containers.RepeatedScalarFieldContainer[int]
    curve: _containers.RepeatedCompositeFieldContainer[CurvePoint]
    hierarchy: Hierarchy
    algorithm: str
    def __init__(self, physical_to_logical: _Optional[_Union[Tensor, _Mapping]] = ..., balancedness_before: _Optional[_Iterable[float]] = ..., balancedness_after: _Optional[_Iterable[float]] = ..., bound: _Optional[_Iterable[float]] = ..., latest_balancedness_before: _Optional[_Iterable[float]] = ..., latest_balancedness_after: _Optional[_Iterable[float]] = ..., latest_bound: _Optional[_Iterable[float]] = ..., moves: _Optional[_Iterable[int]] = ..., layer_order: _Optional[_Iterable[int]] = ..., curve: _Optional[_Iterable[_Union[CurvePoint, _Mapping]]] = ..., hierarchy: _Optional[_Union[Hierarchy, str]] = ..., algorithm: _Optional[str] = ...) -> None: ...

class RebalanceResponse(_message.Message):
    __slots__ = ("placement", "execution")
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    placement: Placement
    execution: Execution
    def __init__(self, placement: _Optional[_Union[Placement, _Mapping]] = ..., execution: _Optional[_Union[Execution, _Mapping]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Solver(_message.Message):
    __slots__ = ("name", "device")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    device: str
    def __init__(self, name: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_rows", "max_items", "max_restarts", "max_item_steps", "max_message_bytes", "max_queue_rows", "max_queue_bytes", "max_batch_rows")
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEMS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITEM_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    max_rows: int
    max_items: int
    max_restarts: int
    max_item_steps: int
    max_message_bytes: int
    max_queue_rows: int
    max_queue_bytes: int
    max_batch_rows: int
    def __init__(self, max_rows: _Optional[int] = ..., max_items: _Optional[int] = ..., max_restarts: _Optional[int] = ..., max_item_steps: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_queue_rows: _Optional[int] = ..., max_queue_bytes: _Optional[int] = ..., max_batch_rows: _Optional[int] = ...) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("server_version", "algorithm", "solvers", "limits", "rebalance_algorithm")
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    SOLVERS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    REBALANCE_ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    server_version: str
    algorithm: str
    solvers: _containers.RepeatedCompositeFieldContainer[Solver]
    limits: Limits
    rebalance_algorithm: str
    def __init__(self, server_version: _Optional[str] = ..., algorithm: _Optional[str] = ..., solvers: _Optional[_Iterable[_Union[Solver, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., rebalance_algorithm: _Optional[str] = ...) -> None: ...
