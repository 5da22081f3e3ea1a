"""A server, as a person uses it."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx

from . import _labels, _table
from ._errors import CohortError
from ._model import Model
from ._module import package
from ._run import Run

#: Rows that the server predicts in one request.
_BATCH = 10_000


@dataclass(frozen=True)
class Peer:
    """A machine of the pool."""

    id: str
    name: str
    status: Literal["ONLINE", "TRAINING", "OFFLINE"]
    engine: str
    device: str
    cores: int
    memory_bytes: int
    samples_per_second: float
    mine: bool


def connect(
    server: str | None = None,
    *,
    email: str | None = None,
    password: str | None = None,
    name: str | None = None,
    signup: bool = False,
    invitation: str | None = None,
    token: str | None = None,
) -> Client:
    """A client of the server at ``server`` (else ``COHORT_SERVER``, else that of the last ``cohort login``).

    With ``email`` and ``password`` it signs in, with ``signup=True`` it makes the account (``name``: how others see you;
    ``invitation``: the code that a server may ask for). With ``token`` it uses an access token. With none of them it is the user whom ``cohort login`` or ``cohort signup`` has signed in on this machine. A certificate of the
    server's own (``cohort serve --tls auto``) is trusted when ``cohort`` on this machine has seen it before.

    Raises ``CohortError`` when the server cannot be reached, or refuses.
    """
    saved = _Saved.load()
    server = server or os.environ.get("COHORT_SERVER") or (saved.server if saved else None) or "http://127.0.0.1:8080"
    server = server.rstrip("/")
    if token is None and email is None:
        if saved is None or saved.server.rstrip("/") != server:
            raise CohortError(
                f"no user is signed in to {server} on this machine: pass email= and password=, or run `cohort login --server {server}`",
                "unauthenticated",
            )
        if saved.has_expired:
            raise CohortError(f"the sign-in of {saved.email} has expired: run `cohort login`, or pass email= and password=", "unauthenticated")
        token = saved.token
    client = Client(server, token)
    if email is not None:
        if password is None:
            raise ValueError("email= goes with password=")
        body: dict[str, str] = {"email": email, "password": password}
        if signup and name:
            body["name"] = name
        if signup and (invitation := invitation or os.environ.get("COHORT_INVITATION")):
            body["invitation"] = invitation
        client._token = client._json("POST", "/auth/signup" if signup else "/auth/signin", json=body)["access_token"]
        client._owns_sign_in = True
    return client


class Client:
    """A signed-in person at a server; ``connect`` makes one. As a context manager it closes itself.

    >>> run = client.fit(df, target="species", peers=2, rounds=12, seed=1, progress=False)
    >>> run.status["status"]
    'COMPLETED'
    """

    def __init__(self, server: str, token: str | None) -> None:
        self.server = server
        self._token = token
        self._owns_sign_in = False
        self._connect()

    def _connect(self) -> None:
        self._http = httpx.Client(
            base_url=self.server,
            verify=_trust(self.server),
            timeout=httpx.Timeout(60, connect=10),
            headers={"User-Agent": f"cohort for Python, httpx/{httpx.__version__}"},
            # A proxy of the environment (HTTPS_PROXY, NO_PROXY) leads to other machines, never to this one.
            trust_env=urlsplit(self.server).hostname not in ("localhost", "127.0.0.1", "::1"),
        )

    def __repr__(self) -> str:
        return f"<cohort.Client of {self.server}>"

    def __getstate__(self) -> dict[str, Any]:
        # For worker processes, which make a connection of their own. The token is in it: a pickle of a client is a secret.
        return {"server": self.server, "_token": self._token, "_owns_sign_in": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._connect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __deepcopy__(self, _: object) -> Client:
        # scikit-learn's clone copies what an estimator was given; a connection is shared.
        return self

    def close(self) -> None:
        """Ends the sign-in that ``connect`` made with a password, and closes the connections."""
        if self._owns_sign_in and not self._http.is_closed:
            self._owns_sign_in = False
            # A server that is away ends it in time by itself.
            with contextlib.suppress(httpx.HTTPError):
                self._http.post("/auth/signout", headers=self._headers, timeout=3)
        self._http.close()

    def fit(
        self,
        table: _table.Table,
        target: str | None = None,
        peers: int | Literal["all"] = 1,
        *,
        wait: bool = True,
        progress: bool = True,
        from_model: Run | str | None = None,
        module: Any = None,
        input_shape: Sequence[int] | int | None = None,
        **settings: Any,
    ) -> Run:
        """Trains on a table: a DataFrame, the path of a CSV, or rows as mappings; or on tensors, ``(inputs, targets)``, arrays [rows, …] and [rows].

        ``target`` is the column to predict (else the last), ``peers`` how many machines train, or ``"all"`` that are free. With ``from_model`` (a run,
        or a session's id) training goes on from a model of yours, whose shape, target and columns stay. ``module`` is a
        ``torch.nn.Module`` to train in place of a SimpleDNN, or the path of a file that ``save_module`` wrote; ``input_shape`` says how it takes a
        row's features, such as ``(1, 28, 28)``. ``settings`` are the
        fields of ``POST /sessions/start``: ``rounds``, ``epochs``, ``lr``, ``batch_size``, ``hidden`` (such as ``[64, 32]``), ``strategy``,
        ``seed``, ``per_peer`` (a dictionary), …; the server says which there are when one is misspelt. With ``progress`` it is shown live; with
        ``wait=False`` the run is returned at once, and ``run.wait()`` waits.

        Raises ``CohortError``: ``not_enough_peers`` when too few peers are free, ``invalid`` for what cannot be trained on; ``TrainingFailed`` when the
        session ends without a model.
        """
        # What pandas declares as categories is one, although it is written in numbers.
        declared = [name for name in _table.categories(table) if name not in (target, *settings.get("number", ()), *settings.get("ignore", ()))]
        if declared and from_model is None:
            settings["category"] = [*dict.fromkeys([*settings.get("category", ()), *declared])]
        fields = {name: _field(name, value) for name, value in {**settings, "target": target, "peers": peers, "from": getattr(from_model, "id", from_model)}.items() if value is not None}
        names = _table.columns(table)
        if target is not None and names is not None and target not in names:
            near = difflib.get_close_matches(target, names, 1)
            raise ValueError(f"there is no column '{target}' to predict; " + (f"did you mean '{near[0]}'?" if near else f"the columns are {', '.join(names)}"))
        if module is not None:
            if input_shape is None and _table.is_tensors(table):
                input_shape = list(cast("tuple[Any, Any]", table)[0].shape[1:])
            fields["module"] = self._add_module(module, input_shape, str(settings.get("task", "classification")))
        elif input_shape is not None:
            raise ValueError("input_shape is for a module of your own")
        _table.check(table)
        data, filename = _table.csv_bytes(table)
        sha256 = hashlib.sha256(data).hexdigest()
        if peers == "all":
            del fields["peers"]
        check = self._json("POST", "/sessions/check", json={**fields, "sha256": sha256})
        if peers == "all":
            fields["peers"] = str(max(1, check["free"]))
        started = self._start(fields, data, filename, sha256 if check["is_known"] else None)
        frame: Any = table if _table.is_frame(table) else None
        labels = None if frame is None else _labels.of_column(frame[target if target is not None else frame.columns[-1]])
        run = Run(self, started["session_id"], labels)
        if wait:
            run.wait(progress=progress)
        return run

    def _add_module(self, module: Any, input_shape: Sequence[int] | int | None, task: str) -> str:
        if isinstance(module, (str, os.PathLike)):
            if input_shape is not None:
                raise ValueError("input_shape does not go with a file: that says what its module takes")
            data = Path(module).read_bytes()
        else:
            if input_shape is None:
                raise ValueError("input_shape is missing: how the module takes one row, such as (1, 28, 28), or how many features")
            data = package(module, input_shape=input_shape, task=task)
        sha256 = hashlib.sha256(data).hexdigest()
        if all(known["sha256"] != sha256 for known in self._json("GET", "/modules")):
            self._json("POST", "/modules", content=data)
        return sha256

    def _start(self, fields: Mapping[str, str], data: bytes, filename: str, sha256: str | None) -> Any:
        if sha256 is not None:
            try:
                return self._json("POST", "/sessions/start", files=[(n, (None, v)) for n, v in {**fields, "sha256": sha256, "filename": filename}.items()])
            except CohortError as error:
                if error.code != "not_found":  # The session that had the file was deleted this moment.
                    raise
        # The fields first: invalid settings are refused before the file is sent.
        parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields.items()]
        return self._json("POST", "/sessions/start", files=[*parts, ("file", (filename, data, "text/csv"))])

    def sessions(self, limit: int = 100) -> list[dict[str, Any]]:
        """My sessions as lists show them, newest first: ``id``, ``name``, ``status``, ``metrics``, ``tags``, …

        >>> client.sessions(limit=1)[0]["status"]
        'COMPLETED'
        """
        return cast("list[dict[str, Any]]", self._json("GET", "/sessions", params={"limit": limit}))

    def runs(self, limit: int = 100) -> list[Run]:
        """My sessions, newest first."""
        return [Run(self, summary["id"]) for summary in self.sessions(limit)]

    def run(self, id: str | None = None) -> Run:
        """A session by its id, or the newest."""
        if id is None:
            id = self._json("GET", "/sessions/training-status")["session_id"]
        return Run(self, id)

    def peers(self) -> list[Peer]:
        """The machines of the pool.

        >>> sorted({peer.engine for peer in client.peers()})
        ['native']
        """
        names = Peer.__dataclass_fields__
        return [Peer(**{name: peer[name] for name in names}) for peer in self._json("GET", "/peers")]

    def join_token(self, name: str | None = None) -> str:
        """A token with which machines may join: ``cohort peer --server … --token …``."""
        return str(self._json("POST", "/auth/tokens", json={"name": name} if name else {})["token"])

    def wait_for_peers(self, count: int = 1, timeout: float = 60) -> None:
        """Returns once so many of my peers are free.

        Raises ``CohortError`` ``not_enough_peers`` when they are not within ``timeout`` seconds.
        """
        found, over = threading.Event(), threading.Event()

        def watch() -> None:
            peers: dict[str, dict[str, Any]] = {}
            while not over.is_set():
                with contextlib.suppress(CohortError):  # The server is away: it is asked again until the time is over.
                    for change in self._stream("/peers/events"):
                        if change.get("all"):
                            peers = {}
                        peers.update({peer["id"]: peer for peer in change["changed"]})
                        for gone in change.get("gone", ()):
                            peers.pop(gone, None)
                        if sum(peer["status"] == "ONLINE" and peer["mine"] for peer in peers.values()) >= count:
                            return found.set()
                        if over.is_set():
                            return None
                over.wait(0.5)
            return None

        # What is wrong at once is not waited for.
        self.peers()
        threading.Thread(target=watch, daemon=True).start()
        if not found.wait(timeout):
            over.set()
            raise CohortError(f"{count} free peers were waited for, {timeout:g} s long", "not_enough_peers")

    def _predict(self, id: str, table: _table.Table, allow_missing: bool) -> tuple[list[Any], list[dict[str, float]] | None]:
        rows = list(_table.records(table))
        predictions: list[Any] = []
        probabilities: list[dict[str, float]] | None = None
        for first in range(0, len(rows), _BATCH):
            answer = self._json("POST", f"/sessions/{id}/predict", json={"rows": rows[first : first + _BATCH], "allow_missing": allow_missing})
            predictions += answer["predictions"]
            if answer.get("probabilities") is not None:
                probabilities = (probabilities or []) + answer["probabilities"]
        return predictions, probabilities

    def _model(self, id: str) -> bytes:
        return self._request("GET", f"/sessions/{id}/model").content

    def _events(self, id: str) -> Iterator[dict[str, Any]]:
        """What happens in a session from now on, until the server ends the stream."""
        yield from self._stream(f"/sessions/{id}/events")

    def _stream(self, path: str) -> Iterator[dict[str, Any]]:
        try:
            with self._http.stream("GET", path, headers=self._headers, timeout=httpx.Timeout(60, connect=10)) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        yield cast("dict[str, Any]", json.loads(line[5:]))
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _json(self, method: str, path: str, **options: Any) -> Any:
        answer = self._request(method, path, **options)
        return answer.json() if answer.content else None

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self._headers, **options.pop("headers", {})}
        try:
            try:
                answer = self._http.request(method, path, headers=headers, **options)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # A connection that was kept open, and that the server has closed meanwhile: asking again changes nothing.
                if method not in ("GET", "HEAD", "DELETE"):
                    raise
                answer = self._http.request(method, path, headers=headers, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if answer.is_error:
            raise _refusal(answer)
        return answer

    def _unreachable(self, error: Exception) -> CohortError:
        return CohortError(f"{self.server} cannot be reached ({error}): is `cohort serve` running there?", "unavailable")


def _refusal(answer: httpx.Response) -> CohortError:
    try:
        problem = answer.json()
        return CohortError(str(problem["detail"]), str(problem["code"]), answer.status_code)
    except (ValueError, KeyError, TypeError):
        return CohortError(f"{answer.request.url} answered {answer.status_code}: is that a Cohort server?", "internal", answer.status_code)


def _field(name: str, value: Any) -> str:
    """A setting as the form has it."""
    if name in ("use", "ignore", "category", "number") and isinstance(value, (list, tuple)):
        return json.dumps([str(part) for part in value])  # Names of columns, which may hold a comma.
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return ",".join(str(part) for part in value) if value else "none"
    return str(value)


def _folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "cohort"


@dataclass(frozen=True)
class _Saved:
    """Whom `cohort` has signed in on this machine."""

    server: str
    email: str
    token: str
    expires_at: datetime

    @property
    def has_expired(self) -> bool:
        return self.expires_at <= datetime.now(timezone.utc)

    @classmethod
    def load(cls) -> _Saved | None:
        try:
            saved = json.loads((_folder() / "credentials.json").read_text())
            expires_at = datetime.fromisoformat(saved["expires_at"].replace("Z", "+00:00"))
            return cls(saved["server"], saved["email"], saved["access_token"], expires_at)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CohortError(f"{_folder() / 'credentials.json'} cannot be read ({error}): run `cohort login` to write it again", "invalid") from error


def _trust(server: str) -> ssl.SSLContext | bool:
    """Whom the server's certificate may come from: this machine's authorities, COHORT_CA_FILE, or itself, as `cohort` has kept it."""
    url = urlsplit(server)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"'{server}' is no server's URL, such as http://192.168.1.20:8080")
    if url.scheme == "http":
        return True
    if file := os.environ.get("COHORT_CA_FILE"):
        return ssl.create_default_context(cafile=file)
    try:
        known = json.loads((_folder() / "known-servers.json").read_text())
    except FileNotFoundError:
        known = {}
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    entry = known.get(f"{host}:{url.port or 443}")
    if entry is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # It is this very certificate that is trusted, wherever it is shown.
    context.load_verify_locations(cadata=entry["certificate"])
    return context
