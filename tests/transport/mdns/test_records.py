"""What is said by mDNS, and what is read out of what others say."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf._dns import DNSAddress, DNSPointer, DNSService, DNSText
from zeroconf._protocol.incoming import DNSIncoming

from p2pboot.core.identity import SecretKey
from p2pboot.transport.addresses import Address, parse_address
from p2pboot.transport.mdns import records
from p2pboot.transport.mdns.links import MAX_TOLD
from p2pboot.wire.dns import ANY, PTR, TXT, Message, Question, Text, read_message, write_question

A, B = (SecretKey(bytes([n]) * 32).public.peer_id for n in (1, 2))
SERVICE = "_p2p._udp.local."
VECTORS = Path(__file__).parents[2] / "vectors" / "mdns"


def read(raw: bytes) -> list[str]:
    return [str(address) for address in records.told(read_message(raw))]


def answer(*strings: bytes, ttl_s: int = 120) -> Message:
    return Message(0, True, (), (Text(ttl_s, strings),))


def test_what_we_say_reads_as_the_spec_wants_and_as_go_wants() -> None:
    addresses = [parse_address(f"/{host}/tcp/4001/p2p/{B}") for host in ("ip4/192.0.2.7", "ip6/fd00::7")]
    pointer, text, service, a, aaaa = DNSIncoming(records.announcement(b"name", addresses)).answers()
    assert isinstance(pointer, DNSPointer)
    assert isinstance(text, DNSText)
    assert (pointer.name, pointer.alias, pointer.ttl) == (SERVICE, "name." + SERVICE, 120)
    assert text.name == pointer.alias
    strings = [f"dnsaddr={address}".encode() for address in addresses]
    assert text.text == b"".join(bytes([len(string)]) + string for string in strings)
    assert isinstance(service, DNSService)
    assert (service.name, service.server, service.port) == (pointer.alias, "name.local.", 4001)
    assert isinstance(a, DNSAddress)
    assert isinstance(aaaa, DNSAddress)
    assert {a.name, aaaa.name} == {service.server}
    assert [ipaddress.ip_address(record.address) for record in (a, aaaa)] == [
        ipaddress.ip_address("192.0.2.7"),
        ipaddress.ip_address("fd00::7"),
    ]


def test_as_much_as_is_told_fits_into_one_frame() -> None:
    longest = [
        parse_address(f"/ip6/2001:db8:1111:2222:3333:4444:5555:{n}666/tcp/65535/p2p/{B}")
        for n in range(MAX_TOLD)
    ]
    packet = records.announcement(records.new_name(), longest)
    assert read(packet) == list(map(str, longest))
    assert len(packet) <= 1400


def test_names_say_nothing_and_are_new_each_time() -> None:
    assert len(records.new_name()) == 32
    assert records.new_name() != records.new_name()


def test_a_withdrawal_tells_of_nothing() -> None:
    address = parse_address(f"/ip4/192.0.2.7/tcp/4001/p2p/{B}")
    raw = records.withdrawal(b"name", [address])
    assert {record.ttl for record in DNSIncoming(raw).answers()} == {0}
    assert read(raw) == []


def test_who_asks_alone_hears_his_number_and_question_and_keeps_it_for_a_short_time() -> None:
    question = Message(77, False, (Question(records.SERVICE, PTR),))
    raw = records.announcement(
        b"name", [parse_address(f"/ip4/192.0.2.7/tcp/4001/p2p/{B}")], question=question
    )
    message = read_message(raw)
    assert (message.number, message.questions) == (77, question.questions)
    assert {record.ttl for record in DNSIncoming(raw).answers()} == {10}
    assert not any(record.unique for record in DNSIncoming(raw).answers())


def test_only_usable_addresses_are_read() -> None:
    good = f"/ip4/192.0.2.7/tcp/4001/p2p/{B}"
    message = answer(
        b"dnsaddr=/ip4/192.0.2.7/udp/4001/quic-v1/p2p/" + B.encode(),
        b"dnsaddr=/ip4/192.0.2.7/tcp/4001",
        b"dnsaddr=\xff\xfe",
        b"path=/dev/null",
        b"dnsaddr2=" + good.encode(),
    )
    assert records.told(message) == [parse_address(good)]


def test_what_is_read_of_one_packet_is_bounded() -> None:
    strings = [f"dnsaddr=/ip4/192.0.2.7/tcp/{n}/p2p/{B}".encode() for n in range(1, 200)]
    assert len(records.told(answer(*strings))) == records.MAX_TAKEN
    late = answer(*[b"dnsaddr=/ip4/nonsense"] * 500, strings[0])
    assert records.told(late) == []


@given(
    st.lists(
        st.binary(max_size=60) | st.text("/ip46tcpz%0:.1nehosd29", max_size=60).map(str.encode), max_size=5
    )
)
def test_any_strings_are_addresses_or_not(said: list[bytes]) -> None:
    for address in records.told(answer(*(b"dnsaddr=/" + one + f"/p2p/{B}".encode() for one in said))):
        assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("question", "peers", "services"),
    [
        (Question(records.SERVICE, PTR), True, False),
        (Question(records.SERVICE, ANY), True, False),
        (Question(records.SERVICE, TXT), False, False),
        (Question(records.SERVICES, PTR), False, True),
        (Question((b"_ipp", b"_tcp", b"local"), PTR), False, False),
    ],
)
def test_questions_are_told_apart(question: Question, peers: bool, services: bool) -> None:
    message = read_message(write_question(question))
    assert (records.asks_for_peers(message), records.asks_for_services(message)) == (peers, services)


def test_a_question_for_the_records_of_a_name_is_one() -> None:
    for name in ((b"x", *records.SERVICE), (b"x", b"local")):
        message = read_message(write_question(Question(name, ANY)))
        assert [records.asks_of(other, message) for other in (b"x", b"y")] == [True, False]
    assert not records.asks_of(b"x", read_message(records.QUESTION))


def test_who_asks_what_services_there_are_hears_of_ours() -> None:
    (pointer,) = DNSIncoming(records.services()).answers()
    assert isinstance(pointer, DNSPointer)
    assert (pointer.name, pointer.alias) == ("_services._dns-sd._udp.local.", SERVICE)


RECORDED = {
    "go": ("12D3KooWRSHEQDDH3xKDvtDeQ5HN28Ha5fmGTaMWbHcs9neXCt1t", 39771),
    "js": ("12D3KooWQa8ZsZNhMz2kFKmuBteJsHitkfL8rLgsfRmhi7gTvrQZ", 35123),
    "rust": ("12D3KooWDtk3RFYfzmRVD5tHJuYXgXo74SXdN4DpKnPs6cqVg9K9", 0),
}


@pytest.mark.parametrize("language", RECORDED)
def test_others_questions_and_answers_are_read(language: str) -> None:
    assert records.asks_for_peers(read_message((VECTORS / f"{language}-question.bin").read_bytes()))
    told = records.told(read_message((VECTORS / f"{language}-answer.bin").read_bytes()))
    peer_id, port = RECORDED[language]
    assert {address.peer_id for address in told} == {peer_id}
    assert Address("ip4", "192.0.2.2", port or told[0].port, peer_id) in told
