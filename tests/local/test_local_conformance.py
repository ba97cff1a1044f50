from pathlib import Path

from cdr_local.plugin import LocalPlugin
from cdr_plugin.conformance.transport import TransportConformance
from cdr_plugin.contracts import Transport
from cdr_plugin.transports.faults import FaultyTransport


class TestLocalTransport(TransportConformance):
    def open_storage(self, folder: Path) -> Transport:
        return LocalPlugin().open(f"file:{folder}", {}, create=True)


class TestLocalTransportThatCopies(TransportConformance):
    def open_storage(self, folder: Path) -> Transport:
        return LocalPlugin().open(f"file:{folder}", {"links": False}, create=True)


class TestFaultyTransportWithoutFaults(TransportConformance):
    def open_storage(self, folder: Path) -> Transport:
        return FaultyTransport(LocalPlugin().open(str(folder), {}, create=True))
