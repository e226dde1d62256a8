"""The Flask-SQLAlchemy drop-in: change one import and one setting."""

from rds_router.flask.extension import SQLAlchemy, primary_only, reads
from rds_router.flask.session import FlaskRoutingSession

__all__ = ["FlaskRoutingSession", "SQLAlchemy", "primary_only", "reads"]
