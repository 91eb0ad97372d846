"""Which mixture which request runs under: leases, capacity, atomic swaps, draining."""

from intrinsic.manager.lease import Lease
from intrinsic.manager.manager import AdapterManager
from intrinsic.manager.options import ManagerOptions
from intrinsic.manager.scaling import ScalingReport
from intrinsic.manager.stats import ManagerStats

__all__ = ["AdapterManager", "Lease", "ManagerOptions", "ManagerStats", "ScalingReport"]
