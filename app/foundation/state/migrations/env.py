"""Alembic's entry: runs the migrations on the connection that `StateDatabase` hands over."""

from alembic import context

from app.foundation.state.models import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
