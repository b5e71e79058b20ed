"""The hub is asked for seconds at most, directly or through a proxy, and not at all where its cache has the weights."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from maskcls.core.errors import ConfigError
from maskcls.storage import hub

ARCH = "test_efficientnet"
CONNECT = socket.create_connection  # before a fixture replaces it


def test_a_hub_without_an_answer_is_asked_once_for_all_architectures(nowhere: list[Any]) -> None:
    for arch in (ARCH, "test_resnet", ARCH):
        assert hub.missing_weights_reason(arch) == f"cannot connect to the hub of {arch}'s weights (timed out)"
    assert nowhere == [hub.TIMEOUT]


def test_weights_in_the_cache_need_no_hub(nowhere: list[Any], tmp_path: Path) -> None:
    folder = tmp_path / "hub" / f"models--timm--{ARCH}.r160_in1k"
    file = folder / "snapshots" / "c0ffee" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c0ffee")
    assert hub.find_in_cache(ARCH) == file and hub.is_cached(ARCH)
    assert hub.missing_weights_reason(ARCH) is None
    assert nowhere == []


def test_weights_that_the_hub_can_give_have_no_reason_to_be_missing(reachable: None) -> None:
    assert hub.missing_weights_reason(ARCH) is None and not hub.is_cached(ARCH)


def test_a_hub_that_is_switched_off_is_not_asked(nowhere: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "(HF_HUB_OFFLINE is set)" in str(hub.missing_weights_reason(ARCH))
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        hub.is_cached(ARCH)
    assert nowhere == []


def test_a_name_server_that_does_not_answer_is_not_waited_for(
    nowhere: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.create_connection", lambda *address, timeout: time.sleep(30))
    monkeypatch.setattr(hub, "TIMEOUT", -0.9)
    started_at = time.monotonic()
    assert str(hub.missing_weights_reason(ARCH)).endswith("(no answer in -0.9 s)")
    assert time.monotonic() - started_at < 5


def test_a_hub_behind_a_proxy_is_asked_through_it(nowhere: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def hang_up() -> None:
            connection, _ = proxy.accept()
            heard.append(connection.recv(100))
            connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        monkeypatch.setattr("socket.create_connection", CONNECT)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert str(hub.missing_weights_reason(ARCH)).startswith("cannot connect to the hub")
    assert heard[0].startswith(b"CONNECT ")


def test_an_architecture_without_weights_is_told_without_asking(nowhere: list[Any]) -> None:
    arch = "vit_base_patch16_reg4_gap_256"
    assert hub.missing_weights_reason(arch) == f"timm has no weights for {arch}"
    assert nowhere == []
