"""Writes texts and their embeddings to a LanceDB table on the shared file system."""

import time

from lazy import TABLE, initialize_lazy


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
