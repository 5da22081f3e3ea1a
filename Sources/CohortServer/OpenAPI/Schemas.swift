import CohortCore
import CohortSession
import CohortWire

extension Schema {
    /// The bodies of the API by name; what Swift's types of the same names in ``API`` encode.
    static let all: [String: Schema] = accounts.merging(pool) { first, _ in first }.merging(sessions) { first, _ in first }
        .merging(outcomes) { first, _ in first }

    private static let accounts: [String: Schema] = [
        "Problem": record([
            "type": text, "title": text, "status": whole, "detail": text.about("What was wrong, where, and what would be right."),
            "code": one(of: [
                "invalid", "unauthenticated", "forbidden", "not_found", "conflict", "too_large", "unavailable",
                "not_enough_peers", "invitation_required", "storage_full", "internal",
            ]),
        ]).about("RFC 9457."),
        "Signup": record(
            ["email": text(3...254).example(.text("ada@example.org")), "password": text(8...72)],
            optional: [
                "name": text(1...64).orNull,
                "invitation": text.orNull.about("A code; needed where the server takes new accounts by invitation alone."),
            ]
        ).closed,
        "SignIn": record([
            "id": text, "client": text.about("What signed in, as its User-Agent says."), "network": text, "created_at": date,
            "expires_at": date, "current": flag.about("Whether this request was made with it."),
        ]),
        "Signin": record(["email": text(1...254), "password": text]).closed,
        "NewPassword": record(["password": text.about("The one until now."), "new_password": text(8...72)]).closed,
        "Confirmation": record(["password": text.about("The current one.")]).closed,
        "AccessToken": record([
            "access_token": text.about("Sent as `Authorization: Bearer …`."), "token_type": text, "expires_in": whole.about("Seconds."),
        ]),
        "Account": record(["id": text, "email": text, "name": text, "created_at": date]),
        "NewToken": record(
            [:],
            optional: [
                "name": text(1...64).orNull, "expires_in": whole(60...315_360_000).orNull.about("Seconds; absent: does not expire."),
            ]
        ).closed,
        "Token": record(
            ["id": text, "name": text, "created_at": date],
            optional: ["expires_at": date, "revoked_at": date, "token": text.about("Shown once, when it is made.")]),
        "Health": record(["status": one(of: ["live", "ready"])]),
        "ObjectReference": record(["key": text, "sha256": text, "bytes": whole]),
    ]

    private static let pool: [String: Schema] = [
        "Capabilities": record(
            [
                "cores": whole(1...65_536), "memory_bytes": whole, "engine": text(1...64), "device": text(1...64),
                "samples_per_second": number, "platform": text, "version": text,
            ],
            optional: [
                "modules": one(of: Pool.self).about("The users whose modules it runs; absent: none."),
                "encodings": list(text).about("Of packed rows. A peer must read constant, f32, u8 and u16."),
                "optimizers": list(text).about("Absent: all."), "nets": list(text).about("Absent: simple."),
            ]),
        "Registration": record(
            ["name": text(1...64), "capabilities": named("Capabilities")],
            optional: [
                "id": text.about("What it was given the first time."), "serve": one(of: Pool.self),
                "credential": text.about("With `id`: of the registration before."), "transport": one(of: ["http", "amqp"]),
            ]),
        "Registered": record(
            [
                "peer_id": text, "registration": whole, "credential": text, "broker": named("BrokerAddress"),
                "heartbeat_interval": number.about("Seconds between presence beats."),
            ],
            optional: [
                "name": text.about("As it is called in the pool."), "owner_id": text.about("Of the user whose join token it came with."),
            ]),
        "BrokerAddress": record(
            ["kind": one(of: ["http", "amqp"])],
            optional: ["url": text, "command_queue": text, "event_exchange": text, "key": text]),
        "Beat": record(["registration": whole], optional: ["through": whole]),
        "CommandAcknowledgement": record(["through": whole]),
        "Peer": record([
            "id": text, "name": text, "status": one(of: PeerStatus.self), "cores": whole, "memory_bytes": whole, "engine": text,
            "device": text, "samples_per_second": number, "platform": text, "last_seen": date, "mine": flag, "serve": one(of: Pool.self),
        ]),
    ]

    private static let task = one(of: LearningTask.self)
    private static let status = one(of: SessionStatus.self)
    private static let state = one(of: ["locked", "loading", "ready", "training", "done", "lost", "failed"])

    private static let sessions: [String: Schema] = [
        "SessionStarted": record(["session_id": text, "status": status, "peers": list(named("SessionPeer"))]),
        "SessionCheck": record(["free": whole.about("Peers that are free for it."), "is_known": flag]),
        "SessionPeer": record(
            [
                "id": text, "name": text, "state": state, "engine": text, "device": text, "rows": whole, "epoch": whole, "progress": number,
            ], optional: ["loss": number, "accuracy": number, "samples_per_second": number, "message": text]),
        "SessionSummary": record(
            [
                "id": text, "status": status, "created_at": date, "filename": text, "strategy": text, "peers": list(text), "seed": whole,
                "progress": number,
            ],
            optional: [
                "name": text, "started_at": date, "ended_at": date, "target": text, "task": task, "metrics": named("Metrics"),
                "error": text, "version": whole, "note": text, "tags": list(text),
            ]),
        "Labels": record([:], optional: ["note": text(0...2_000).orNull, "tags": list(text).orNull]).closed,
        "NewLink": record(
            [:],
            optional: [
                "allows_predictions": flag.orNull, "expires_in": whole(60...31_536_000).orNull.about("Seconds; absent: 30 days."),
            ]
        ).closed,
        "Link": record(
            ["id": text, "created_at": date, "expires_at": date, "allows_predictions": flag],
            optional: ["path": text.about("The page, below the server's address; in the answer that makes the link alone.")]),
        "TrainingStatus": record(
            [
                "session_id": text, "status": status, "message": text, "progress": number, "round": whole, "rounds": whole, "epoch": whole,
                "peers": list(named("SessionPeer")),
            ], optional: ["name": text, "target": text, "waiting_for": text, "error": text]),
        "Session": record(
            [
                "id": text, "status": status, "created_at": date, "settings": named("Settings"), "filename": text, "progress": number,
                "round": whole, "peers": list(named("SessionPeer")),
            ],
            optional: [
                "started_at": date, "ended_at": date, "dataset": named("Dataset"), "model": named("ModelSpec"), "waiting_for": text,
                "error": text, "rounds": list(named("RoundSummary")), "note": text, "tags": list(text),
                "events": list(record(["kind": one(of: ["status", "peer", "note"]), "time": date, "message": text])),
            ]),
        "Settings": record(
            [
                "peers": whole, "strategy": text, "rounds": whole, "epochs": whole, "batch_size": whole, "lr": number,
                "optimizer": record(
                    [
                        "name": one(of: OptimizerName.self), "momentum": number, "nesterov": flag, "weight_decay": number, "beta1": number,
                        "beta2": number, "epsilon": number,
                    ], optional: ["gradient_clip": number]), "hidden": list(whole), "activation": one(of: Activation.self),
                "dropout": number, "seed": whole, "validation": number,
                "min_peers": whole,
                "per_peer": map(record([:], optional: ["batch_size": whole, "epochs": whole, "lr": number])),
            ],
            optional: [
                "lr_schedule": one(of: LearningRateSchedule.self), "task": task, "target": text, "early_stopping": whole,
                "from": text, "module": text, "label_smoothing": number, "proximal_mu": number,
                "loss": one(of: LossName.self), "server_lr": number, "server_momentum": number, "server_tau": number,
                "optimizer_state": one(of: OptimizerMemory.self), "weighting": one(of: Weighting.self), "malicious_peers": whole,
                "buffer_size": whole, "local_steps": whole,
                "update_compression": one(of: UpdateCompression.self),
                "nearest_neighbor_mixing": flag, "keep_updates": flag,
                "automatic": list(text).about("Names of settings that were chosen automatically, by rows and peers."),
                "max_norm_ratio": number,
                "class_weight": any(of: [text, map(number)]),
                "pool": one(of: Pool.self),
                "data": record(
                    ["use": list(text), "ignore": list(text), "scaling": one(of: Scaling.self)],
                    optional: ["header": flag, "group": text, "category_columns": list(text), "number_columns": list(text)]), "name": text,
                "note": text,
            ]),
        "ModelSpec": record(
            [
                "inputs": whole, "hidden": list(whole), "outputs": whole, "activation": one(of: Activation.self), "dropout": number,
                "task": task,
            ],
            optional: [
                "module": record(
                    [
                        "format": one(of: ModuleSpec.Format.self), "sha256": text, "input_shape": list(whole),
                        "tensors": list(record(["name": text, "shape": list(whole)])),
                    ], optional: ["trained": whole]
                ).about("A module of the owner's, which is trained instead of a SimpleDNN.")
            ]),
        "Module": record([
            "sha256": text.about("Of its file: a session's module."), "bytes": whole, "format": one(of: ModuleSpec.Format.self),
            "inputs": whole, "input_shape": list(whole), "outputs": whole, "task": task, "parameters": whole,
        ]),
        "Dataset": record(
            [
                "filename": text, "csv_link": text, "object": named("ObjectReference"), "target": text, "task": task,
                "training_rows": whole, "validation_rows": whole, "features": whole, "warnings": list(text),
            ], optional: ["schema_object": named("ObjectReference"), "schema": named("TableSchema"), "target_std": number]),
        "TableSchema": record(
            [
                "has_header": flag, "delimiter": text, "columns": list(named("Column")), "target": text, "task": task,
                "classes": list(text), "validation": number, "split_seed": whole, "training_rows": whole, "validation_rows": whole,
                "dropped_rows": whole,
            ],
            optional: [
                "encoding": text, "class_counts": list(whole), "validation_counts": list(whole), "group": text, "group_threshold": whole,
            ]),
        "Column": record(
            ["name": text, "kind": one(of: ["numeric", "categorical", "date", "ignored", "target"]), "missing": whole],
            optional: [
                "mean": number, "std": number, "shift": number, "scale": number, "scaling": one(of: Scaling.self), "categories": list(text),
                "has_other": flag, "date_format": text, "parts": list(record(["part": text, "mean": number, "std": number])), "note": text,
            ]),
        "Notice": record(
            [
                "session_id": text, "kind": one(of: ["status", "epoch", "round", "peer", "note"]), "time": date, "message": text,
            ],
            optional: [
                "status": status, "progress": number, "round": whole, "epoch": whole, "rounds": whole.about("How many there are."),
                "epochs": whole.about("How many a round has."), "peer_id": text, "peer_name": text, "loss": number,
                "accuracy": number, "r2": number, "samples_per_second": number, "validation_loss": number, "validation_accuracy": number,
                "validation_r2": number, "validation_rmse": number,
            ]
        ).about("The data of a server-sent event; the event's name is the kind."),
    ]

    private static let outcomes: [String: Schema] = [
        "Metrics": record(["samples": whole], optional: ["loss": number, "accuracy": number, "r2": number]),
        "RoundSummary": record(
            ["round": whole, "seconds": number, "answered": list(text), "dropped": map(text)],
            optional: ["training": named("Metrics"), "validation": named("Metrics")]),
        "Receipt": record(
            [
                "session_id": text, "settings": named("Settings"), "dataset_sha256": text, "model": named("ModelSpec"),
                "streams": list(text),
                "rounds": list(
                    record(
                        [
                            "round": whole, "weights_sha256": text,
                            "outcome": record(
                                [
                                    "rule": record([:]).about(
                                        "By its name, with its numbers: {\"krum\": {\"malicious\": 2, \"keep\": 6}}."),
                                    "shares": list(
                                        record(
                                            ["peer_id": text, "weight": number, "scale": number],
                                            optional: ["stream_scales": .map(number).orNull])),
                                ], optional: ["mixing": whole]),
                            "contributions": list(named("Contribution")),
                        ], optional: ["validation": named("Metrics")])),
            ],
            optional: [
                "start": named("ObjectReference"),
                "stream_periods": list(whole).about("Each of streams stands in the updates of every so many rounds; absent: of all."),
            ]),
        "Contribution": record(
            ["peer_id": text, "peer_name": text, "samples": whole, "sha256": text],
            optional: [
                "key": text.about("For GET /sessions/{id}/update, where updates are kept."),
                "weight": number.about("By which its change counts in the new weights."), "norm": number.about("Of its change."),
                "cosine": number.about("Of the angle between its change and the others' combined."),
            ]),
        "MetricPoint": record(
            ["session_id": text, "round": whole, "epoch": whole, "time": date],
            optional: [
                "peer_id": text, "peer_name": text, "loss": number, "accuracy": number, "r2": number, "samples_per_second": number,
            ]),
        "Results": record(
            [
                "session_id": text, "status": status, "metrics": named("Metrics"), "peers": list(named("PeerResult")), "rounds": whole,
                "seconds": number, "strategy": text, "target_given": flag, "seed": whole, "warnings": list(text),
                "history": list(named("RoundSummary")),
            ],
            optional: [
                "rows": record(["rows": whole, "least": whole, "most": whole, "mean": number]), "best_peer": text,
                "reported": named("Metrics"), "target": text, "task": task, "evaluation": named("Evaluation"), "target_std": number,
                "expected_seconds": number, "version": whole,
            ]),
        "PeerResult": record(
            [
                "id": text, "name": text, "engine": text, "device": text, "state": state, "samples": whole, "trained_samples": whole,
            ],
            optional: [
                "loss": number, "accuracy": number, "r2": number, "samples_per_second": number, "message": text, "worked_seconds": number,
                "sent_bytes": whole, "received_rows": whole.about("Different rows that the machine received, held-out rows included."),
            ]),
        "Evaluation": record(
            ["task": task, "target": text, "samples": whole],
            optional: [
                "loss": number, "accuracy": number, "accuracy_interval": list(number), "balanced_accuracy": number,
                "classes": list(
                    record(["label": text, "samples": whole], optional: ["precision": number, "recall": number, "f1": number])),
                "confusion": list(list(whole)),
                "calibration": list(
                    record(["from": number, "to": number, "samples": whole, "probability": number, "accuracy": number])),
                "importance": list(record(["column": text, "loss": number], optional: ["accuracy": number])),
                "predictions": list(record(["actual": number, "predicted": number])),
                "calibration_error": number, "rmse": number, "mae": number, "r2": number,
                "guessing": record(["prediction": text], optional: ["accuracy": number, "rmse": number, "mae": number]),
            ]),
        "PredictRequest": record(
            ["rows": list(map(cell)).about("1 to 10000 objects, by column name.")],
            optional: ["allow_missing": flag.orNull.about("Whether columns that no row has count as missing values.")]
        ).closed,
        "Prediction": record(
            ["predictions": list(cell).about("Class labels, or numbers in the target's own units.")],
            optional: ["probabilities": list(map(number))]),
    ]
}
