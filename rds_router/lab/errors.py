"""What can go wrong in the lab.

LabError
├── EngineMissing     this machine cannot start such servers; says what to install
├── ServerFailed      a server did not start or ended by itself; quotes the end of its log
├── LabTimeout        something did not become true in time
└── NotSupported      this engine or runtime has no such thing
"""

from __future__ import annotations


class LabError(RuntimeError):
    """Any failure of the lab itself."""


class EngineMissing(LabError):
    """No usable server program, container engine or Python driver was found."""


class ServerFailed(LabError):
    """A server did not start, or ended by itself."""


class LabTimeout(LabError):
    """Something did not become true in the time given."""


class NotSupported(LabError):
    """The engine or runtime cannot do what was asked."""
