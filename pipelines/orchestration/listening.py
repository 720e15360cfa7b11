"""Where servers listen: on this machine alone unless told otherwise, and what becomes reachable then."""

import os
import socket
from ipaddress import IPv6Address, ip_address

from msclnet.errors import UserError

LOOPBACK = "127.0.0.1"
MLFLOW_ALLOWS = (
    "can read, change and delete runs and registered models without a password, and what a model brings along runs as "
    "a program where it is loaded"
)
PREFECT_ALLOWS = "can read all logs, start and cancel runs, and have this machine run any program as you, "
WITHOUT_PASSWORD = (
    "without a password (PREFECT_SERVER_API_AUTH_STRING=user:password sets one; those who use the server set the same "
    "as PREFECT_API_AUTH_STRING)"
)
WITH_PASSWORD = "if they know the password of PREFECT_SERVER_API_AUTH_STRING"


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


def exposures(mlflow_host: str, mlflow_port: int | None, prefect_host: str, prefect_port: int) -> list[str]:
    """What becomes reachable from elsewhere; empty while everything stays on this machine."""
    password = WITH_PASSWORD if os.environ.get("PREFECT_SERVER_API_AUTH_STRING") else WITHOUT_PASSWORD
    found = [
        exposure(
            "Prefect",
            prefect_host,
            prefect_port,
            variable="PREFECT_HOST",
            allows=PREFECT_ALLOWS + password,
        )
    ]
    if mlflow_port is not None:
        found.append(
            exposure("MLflow", mlflow_host, mlflow_port, variable="MLFLOW_HOST", allows=MLFLOW_ALLOWS)
        )
    return [warning for warning in found if warning]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if isinstance(ip_address(host), IPv6Address) else socket.AF_INET
