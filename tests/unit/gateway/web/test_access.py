"""Who is asking, from where, and whether there is room."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UnavailableError
from gateway.model import FileId
from gateway.protocol.http import Request
from gateway.web.access import site
from tests.unit.gateway.fakes import settle
from tests.unit.gateway.web.in_memory import Rooms
from tests.unit.gateway.web.test_door import PATH, SSE, get, statuses

PROXIES = {"trusted_proxies": ("10.0.0.0/8", "2001:db8::/32")}


async def rooms_with(**settings):
    """Everything behind a door, not working."""
    proxies = settings.pop("trusted_proxies", ())
    return Rooms(
        {"f-1": 1}, trusted_proxies=tuple(map(ip_network, proxies)), **settings
    )


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "203.0.113.1, 192.0.2.7", "192.0.2.7"),
        ("10.0.0.1", "203.0.113.1,192.0.2.7 , 10.9.9.9", "192.0.2.7"),
        ("10.0.0.1", "10.1.1.1, 10.9.9.9", "10.1.1.1"),
        ("10.0.0.1", "192.0.2.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "192.0.2.7, unknown, 10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:470::1", "2001:470::1"),
        ("10.0.0.1", "192.0.2.7," * 9 + ",".join(["10.0.0.2"] * 500), "10.0.0.2"),
        ("192.0.2.9", "203.0.113.1", "192.0.2.9"),
        ("", "203.0.113.1", ""),
    ],
)
async def test_only_what_trusted_proxies_wrote_is_believed(peer, forwarded_for, client):
    rooms = await rooms_with(**PROXIES)

    assert client == rooms.door.access.client(peer, forwarded_for)


@given(said=st.text() | st.lists(st.ip_addresses().map(str)).map(",".join))
async def test_whatever_a_stranger_says_changes_nothing(said):
    rooms = await rooms_with(**PROXIES)

    assert "192.0.2.9" == rooms.door.access.client("192.0.2.9", said)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_an_ipv6_network_of_64_bits_counts_as_one_address(address, counted):
    assert counted == site(address)


def asking(remote="", *, in_reserve=False):
    request = Request("GET", "/", {})
    request.remote = remote
    request.in_reserve = in_reserve
    return request


SHORT_OF = {
    "memory": ({}, lambda rooms: setattr(rooms.memory, "used_share", 0.81), {}),
    "files": ({}, lambda rooms: None, {"in_reserve": True}),
    "draining": ({}, lambda rooms: rooms.hub.drain(), {}),
    "address": (
        {"max_subscribers_per_ip": 1},
        lambda rooms: rooms.door.access.come("2001:db8::1"),
        {"remote": "2001:db8::2"},
    ),
}


@pytest.mark.parametrize("reason", SHORT_OF)
async def test_who_is_refused_is_counted_by_reason(reason):
    settings, shorten, asked = SHORT_OF[reason]
    rooms = await rooms_with(**settings)
    rooms.door.access.room(asking(), [FileId("f-1")])
    shorten(rooms)

    with pytest.raises(UnavailableError):
        rooms.door.access.room(asking(**asked), [FileId("f-1")])

    assert 1 == rooms.metrics.registry.get_sample_value(
        "reelready_refused_total", {"reason": reason}
    )


async def test_a_file_takes_so_many_and_others_more():
    async with Rooms({"f-1": 1, "f-2": 1}, max_subscribers_per_file=2) as rooms:
        clients = [rooms.connect() for _ in range(4)]
        paths = (
            PATH,
            f"{PATH}/events",
            "/v1/events?file=f-2&file=f-1",
            "/v1/files/f-2/events",
        )
        for (connection, _), path in zip(clients, paths, strict=True):
            query = "?after=1&wait=9" if path == PATH else ""
            connection.data_received(get(f"{path}{query}", SSE))
            await settle()
        board, other = (transport.written for _, transport in clients[2:])

        assert b"" == clients[0][1].written
        assert b"refused" not in clients[1][1].written
        assert b'{"reason":"refused"}' in board.replace(b" ", b"")
        assert b"refused" not in other


async def test_through_a_proxy_each_client_counts_alone():
    rooms = await rooms_with(trusted_proxies=("127.0.0.1",), max_subscribers_per_ip=1)
    async with rooms:
        told = []
        for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.9, 192.0.2.2"):
            connection, transport = rooms.connect()
            said = f"X-Forwarded-For: {client}\r\n"
            connection.data_received(get(f"{PATH}?after=1&wait=9", said))
            await settle()
            told.append(statuses(transport.written))
        rooms.ring("f-1", 2)
        await settle()

        assert [[], [], [503], [503]] == told
        assert not rooms.door.access._waiting


async def test_a_connection_that_serves_several_clients_counts_each_back():
    rooms = await rooms_with(trusted_proxies=("127.0.0.1",), max_subscribers_per_ip=1)
    async with rooms:
        connection, transport = rooms.connect()
        for seq, client in enumerate(("192.0.2.1", "192.0.2.2"), 2):
            asked = get(
                f"{PATH}?after={seq - 1}&wait=9", f"X-Forwarded-For: {client}\r\n"
            )
            connection.data_received(asked)
            await settle()
            assert {client: 1} == rooms.door.access._waiting
            rooms.ring("f-1", seq)
            await settle()

        assert [200, 200] == statuses(transport.written)
        assert not rooms.door.access._waiting
