"""The networks: two-stream extractors, and the synergistic branch that only training uses."""

from msclnet.models.build import build_network
from msclnet.models.mogrifier import MogrifierLSTMCell
from msclnet.models.network import MSCLNet

__all__ = ["MSCLNet", "MogrifierLSTMCell", "build_network"]
