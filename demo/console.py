# SPDX-License-Identifier: MIT
"""A guest's console on a pseudo-terminal, as a person would have it: send text, wait for text."""

import os
import pty
import re
import select
import signal
import sys
import time


class Silence(Exception):
    """What was waited for did not come in time, or the program ended first."""


class Console:
    def __init__(self, argv, echo=True):
        self.seen = ""  # everything so far
        self.at = 0  # where the next wait() starts looking
        self.echo = echo
        self.start = time.monotonic()
        self.status = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvp(argv[0], argv)
            except OSError as e:
                os.write(2, f"{argv[0]}: {e.strerror}\n".encode())
            os._exit(127)

    def elapsed(self):
        return time.monotonic() - self.start

    def send(self, text):
        os.write(self.fd, text.encode())

    def _read(self, until):
        """Appends what comes next to self.seen; False at the end of the program's output."""
        left = until - time.monotonic()
        if left <= 0 or not select.select([self.fd], [], [], left)[0]:
            raise Silence("timed out")
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the other side has closed
            data = b""
        text = data.decode("latin-1").replace("\r", "")
        if self.echo:
            sys.stdout.write(text)
            sys.stdout.flush()
        self.seen += text
        return bool(data)

    def wait(self, pattern, seconds):
        """Waits for a regular expression after what earlier waits matched; returns the match."""
        until = time.monotonic() + seconds
        while True:
            found = re.compile(pattern, re.M).search(self.seen, self.at)
            if found:
                self.at = found.end()
                return found
            try:
                more = self._read(until)
            except Silence:
                raise Silence(f"no {pattern!r} within {seconds} s") from None
            if not more:
                raise Silence(f"the program ended before {pattern!r}")

    def wait_exit(self, seconds):
        """Waits for the program to end; returns its exit status, or 128 + the signal's number."""
        until = time.monotonic() + seconds
        while self.status is None:
            try:
                if not self._read(until):
                    break
            except Silence:
                raise Silence(f"the program did not end within {seconds} s") from None
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code
            elif time.monotonic() > until:
                raise Silence(f"the program did not end within {seconds} s")
            else:
                time.sleep(0.01)
        return self.status

    def kill(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.status = 128 + signal.SIGKILL
