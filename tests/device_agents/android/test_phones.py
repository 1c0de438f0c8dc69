"""The list of phones: one line a phone, with what it offers or why it cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from leti.device_agents.android.adb import Adb
from leti.device_agents.android.lock import PhoneLock
from leti.device_agents.android.phones import list_phones

SEVERAL = """
if [ "$1" = devices ]; then cat <<'EOT'
List of devices attached
10.0.0.7:5555          device product:toy model:Toy_Phone device:toy transport_id:2
USB1                   device usb:1-4 product:toy model:Toy_Phone device:toy transport_id:1
USB2                   device usb:1-5 product:toy model:Toy_Phone device:toy transport_id:3
USB3                   unauthorized usb:1-6 transport_id:4
USB4                   device usb:1-7 model:Old transport_id:5

EOT
elif [ "$1" = -s ] && [ "$2" = USB4 ]; then echo "error: device offline" >&2; exit 1
elif [ "$1" = -s ] && [ "$3" = shell ]; then SERIAL=$2 PATH="$(dirname "$0"):$PATH" exec sh -c "$4"
fi
"""
GETPROP = """
case "$1" in
ro.serialno) [ "$SERIAL" = USB2 ] && echo N2 || echo N1 ;;
ro.product.model) echo "Toy  Phone" ;;
ro.soc.model) echo SC1 ;;
ro.build.version.sdk) echo 34 ;;
sys.boot_completed) echo 1 ;;
esac
"""


def test_each_phone_is_listed_once_with_what_it_offers_or_why_not(adb_of: Callable[..., Adb], tmp_path: Path) -> None:
    adb = adb_of(SEVERAL, getprop=GETPROP, taskset="exit 0")
    lock = PhoneLock("N2", tmp_path / "locks")
    one, two, three, four = list_phones(adb, lock_folder=tmp_path / "locks")
    lock.release()
    assert (one.serial, one.serials, one.name, one.reason) == ("USB1", ("10.0.0.7:5555", "USB1"), "Toy Phone N1", "")
    assert one.device is not None
    assert one.device.soc == "SC1"
    assert any(platform.startswith("xnnpack on big") for platform in one.platforms)
    assert any(platform.startswith("gpu") and "OpenCL" in platform for platform in one.platforms)
    assert (two.serial, two.name) == ("USB2", "Toy Phone N2")
    assert "pid" in two.reason
    assert (three.serial, three.state, three.platforms) == ("USB3", "unauthorized", ())
    assert "accept the key" in three.reason
    assert (four.serial, four.name) == ("USB4", "Old")
    assert "does not answer" in four.reason


def test_no_phone_is_no_error(adb_of: Callable[..., Adb]) -> None:
    assert list_phones(adb_of("echo 'List of devices attached'")) == ()


def test_a_phone_whose_serial_is_none_is_listed_with_the_reason(adb_of: Callable[..., Adb]) -> None:
    (phone,) = list_phones(adb_of("printf 'List of devices attached\\n????????????   device model:Toy\\n'"))
    assert (phone.serial, phone.name) == ("????????????", "Toy")
    assert "is no serial" in phone.reason
