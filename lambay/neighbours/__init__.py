"""The services that are not ours: moto in process, made durable by a journal."""
