"""Ports that several processes of one server share, and no other server."""

import contextlib
import socket

import pytest
from served import free_ports

from estimator_serving.serving.config import Config
from estimator_serving.serving.process.ports import high_descriptors, reserve
from estimator_serving.serving.startup import StartError

HOST = "127.0.0.1"


def config(**settings):
    return Config(**{"model_base_path": "/m", "bind_address": HOST, "workers": "2", "port": 0} | settings)


@contextlib.contextmanager
def reserved(**settings):
    named, held = reserve(config(**settings))
    with held:
        yield named


def listener(port, *, shares=True):
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
    try:
        one.bind((HOST, port))
        one.listen()
    except OSError:
        one.close()
        raise
    return one


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"])
def test_a_free_port_is_chosen_once_and_shared_by_its_listeners(address):
    with reserved(rest_api_port=-1, bind_address=address) as named:
        assert named.rest_api_port > 0
        with listener(named.rest_api_port), listener(named.rest_api_port):
            pass


def test_port_0_stays_off():
    with reserved(port=-1, rest_api_port=0) as named:
        assert (named.port > 0, named.rest_api_port) == (True, 0)


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_a_port_that_others_share_is_taken(flag):
    (port,) = free_ports(1)
    with listener(port), pytest.raises(StartError, match=rf"cannot listen on {HOST}:{port} .* another --{flag}"):
        reserve(config(**{"rest_api_port": 0, "port": 0, flag: port}))


def test_two_servers_that_start_at_once():
    with reserved(rest_api_port=-1) as named, pytest.raises(StartError, match="Address already in use"):
        reserve(config(rest_api_port=named.rest_api_port))


def test_a_server_of_one_process_does_not_get_a_port_that_workers_listen_on():
    with reserved(rest_api_port=-1) as named, listener(named.rest_api_port), pytest.raises(OSError, match="in use"):
        listener(named.rest_api_port, shares=False)


def test_listeners_have_higher_descriptors_than_connections():
    with high_descriptors(), socket.socket() as made:
        above = made.fileno()
    with socket.socket() as made:
        assert above > made.fileno() + 100
