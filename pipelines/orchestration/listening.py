"""Where servers listen: on this machine alone unless told otherwise, and what becomes reachable then."""

import os
import socket
from ipaddress import IPv6Address, ip_address

from msclnet.errors import UserError

LOOPBACK = "127.0.0.1"


def host_from(variable: str) -> str:
    """The address that an environment variable names for a server to listen on; this machine's own where it is unset.

    Args:
        variable: its name.

    Raises:
        UserError: it is no address of this machine.
    """
    text = os.environ.get(variable, "").strip()
    if text in ("", "localhost"):
        return LOOPBACK
    expected = (
        f"{LOOPBACK} (this machine alone), 0.0.0.0 (every network) or the address of one of its networks"
    )
    try:
        host = str(ip_address(text))
    except ValueError:
        raise UserError(f"{variable}={text!r} is no address: expected {expected}") from None
    try:
        with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise UserError(
            f"{variable}={text!r} is no address of this machine ({error.strerror}): expected {expected}"
        ) from None
    return host


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        # As servers do; otherwise a port that was in use a minute ago would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_local(host: str) -> bool:
    """Whether nobody but this machine's own programs can reach a server that listens there."""
    return ip_address(host).is_loopback


def address_here(host: str, port: int) -> str:
    """How this machine's own programs reach a server that listens there."""
    address = ip_address(host)
    if address.is_unspecified:
        address = ip_address("::1" if isinstance(address, IPv6Address) else LOOPBACK)
    shown = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return f"http://{shown}:{port}"


def exposure(server: str, host: str, port: int, *, variable: str, allows: str) -> str:
    """What to say about a server that others can reach; empty where none can.

    Args:
        server: its name.
        host: where it listens.
        port: where it listens.
        variable: that told so.
        allows: what anybody who reaches it may do.
    """
    if is_local(host):
        return ""
    whom = "every network of this machine" if ip_address(host).is_unspecified else f"the network of {host}"
    return (
        f"warning: {variable}={host} opens {server} (port {port}) to {whom}: whoever reaches it {allows}. "
        f"Traffic is not encrypted. Unset {variable} to keep it to this machine, or put a firewall or a proxy with a "
        "password and TLS before it."
    )


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if isinstance(ip_address(host), IPv6Address) else socket.AF_INET
