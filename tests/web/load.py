"""Clients that submit without a pause."""

from __future__ import annotations

import http.client
import json
from collections import Counter

from typing_extensions import override

from tests.load import Load
from tests.serving import TOKEN


class Clients(Load):
    """Clients that keep their connections and submit as fast as they are answered."""

    def __init__(self, port: int, clients: int) -> None:
        super().__init__(clients)
        self._port = port
        self.answers: Counter[object] = Counter()

    @override
    def run(self) -> None:
        body = json.dumps({"task": "add", "payload": {"a": 1}})
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while self.goes_on(0.01):
            try:
                connection.request("POST", "/jobs", body, headers)
                answer = connection.getresponse()
                answer.read()
                self.answers[answer.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[type(error).__name__] += 1
                connection.close()
        connection.close()
