"""Signs in, uploads, waits and predicts with a client that openapi-python-client made of /openapi.json, in the package `client`."""
import sys
import time
from pathlib import Path

from client import AuthenticatedClient, Client
from client.api.accounts import sign_in
from client.api.pool import list_peers
from client.api.sessions import get_results, list_sessions, predict, start_session, training_status
from client.models import PeerStatus, PredictRequest, PredictRequestRowsItem, SessionSummaryStatus, Signin, StartSessionBody
from client.types import File


def main():
    url = sys.argv[1]
    token = sign_in.sync(client=Client(base_url=url), body=Signin(email="api@example.org", password="correct horse"))
    person = AuthenticatedClient(base_url=url, token=token.access_token, raise_on_unexpected_status=True)
    while all(peer.status != PeerStatus.ONLINE for peer in list_peers.sync(client=person)):
        time.sleep(0.1)
    path = Path("Examples/penguins.csv")
    with path.open("rb") as file:
        body = StartSessionBody(peers=1, target="species", rounds=2, seed=2, file=File(payload=file, file_name=path.name, mime_type="text/csv"))
        started = start_session.sync(client=person, body=body)
    assert hasattr(started, "session_id"), started
    while training_status.sync(client=person, session_id=started.session_id).status in ("PENDING", "RUNNING"):
        time.sleep(0.1)
    results = get_results.sync(started.session_id, client=person)
    assert results.target == "species" and results.metrics.accuracy > 0.5, results
    row = PredictRequestRowsItem.from_dict({"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750})
    answer = predict.sync(started.session_id, client=person, body=PredictRequest(rows=[row], allow_missing=True))
    assert len(answer.predictions) == 1 and len(answer.probabilities) == 1, answer
    newest = list_sessions.sync(client=person, limit=1)[0]
    assert newest.id == started.session_id and newest.status == SessionSummaryStatus.COMPLETED, newest
    print("a generated client signed in, trained and predicted")


if __name__ == "__main__":
    main()
