"""Writes texts and their embeddings to a LanceDB table on the shared file system."""

import sys
import time

sys.path.append("/mnt/efs/packages")

TABLE = "notes"
model = None
database = None


def initialize_lazy():
    """Load the model and open the database on the first request, not at import: a cold start stays short."""
    global model, database
    if model is None:
        import lancedb
        from embedding import SentenceEncoder

        model = SentenceEncoder("/mnt/efs/models/all-MiniLM-L6-v2")
        database = lancedb.connect("/mnt/efs/databases/lancedb")
    return model, database


def lambda_handler(event, context):
    """`{"documents": [{"topic": …, "text": …}], "replace": bool}` → `{"rows": n, "seconds": {…}}`."""
    started = time.perf_counter()
    encoder, store = initialize_lazy()
    loaded = time.perf_counter()
    documents = event["documents"]
    vectors = encoder.encode([document["text"] for document in documents])
    rows = [{**document, "vector": vector} for document, vector in zip(documents, vectors, strict=True)]
    if event.get("replace"):
        table = store.create_table(TABLE, rows, mode="overwrite")
    else:
        table = store.open_table(TABLE)
        table.add(rows)
    return {
        "rows": table.count_rows(),
        "seconds": {"load": loaded - started, "embed_and_write": time.perf_counter() - loaded},
    }
