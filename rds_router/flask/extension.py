"""SQLAlchemy: Flask-SQLAlchemy's extension, with a router behind its default bind."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

import flask_sqlalchemy
from flask import Flask, Response, current_app, g, has_request_context, request
from flask_sqlalchemy import record_queries
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker
from sqlalchemy.sql import Select

from rds_router.core.contract import STRONG, Contract, contract_of
from rds_router.core.policy import RoutingPolicy
from rds_router.core.token import Token
from rds_router.core.trail import Trail
from rds_router.errors import ConfigurationError
from rds_router.flask import promises, travel
from rds_router.flask.app_router import AppRouter
from rds_router.flask.misses import RoutingQuery, confirmed
from rds_router.flask.session import FlaskRoutingSession
from rds_router.router import Router
from rds_router.servers import Replica, ReplicaLike, checked_url, policy_for, shown
from rds_router.session import RoutingSession, scoped_session
from rds_router.settings import credentials_from, policy_settings, tls_from, uris_from_environment

_P = ParamSpec("_P")
_R = TypeVar("_R")
_log = logging.getLogger("rds_router")
PREFIX: Final = "RDS_ROUTER_"


class SQLAlchemy(flask_sqlalchemy.SQLAlchemy):
    """A drop-in for ``flask_sqlalchemy.SQLAlchemy`` whose session sends reads to replicas.

    Reads these keys of ``app.config`` besides Flask-SQLAlchemy's own:

    ``SQLALCHEMY_REPLICA_URIS``           replicas of the default bind: a list of URLs or Replica, or one
                                          comma-separated string; none: a plain Flask-SQLAlchemy
    ``RDS_ROUTER_<FIELD>``                each field of RoutingPolicy, as ``RDS_ROUTER_MAX_LAG``
    ``RDS_ROUTER_TOKEN_STORE``            where a browser keeps its token: ``"cookie"``, one of its own, or
                                          ``"session"``, Flask's
    ``RDS_ROUTER_REPLICA_ENGINE_OPTIONS`` overrides ``SQLALCHEMY_ENGINE_OPTIONS`` for replicas

    ``RDS_ROUTER_CREDENTIALS``            ``"iam"``, ``"secretsmanager:NAME"`` or a callable, in place of passwords
    ``RDS_ROUTER_TLS``                    the file of authorities to trust, or a Tls

    Without ``SQLALCHEMY_DATABASE_URI`` the environment's ``DB_HOST`` and its kin are used. Raises
    ConfigurationError for a value that cannot work.
    """

    # Made by Flask-SQLAlchemy's constructor; said here so that type checkers know using_primary() and its kin.
    session: scoped_session  # type: ignore[assignment]

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._app_routers: WeakKeyDictionary[Flask, Router] = WeakKeyDictionary()
        given = options.get("query_class", RoutingQuery)
        if not issubclass(given, RoutingQuery):
            # As with the session: a query class of the user's own keeps its methods.
            given = type(given.__name__, (RoutingQuery, given), {})
        super().__init__(app, **{**options, "query_class": given})

    def init_app(self, app: Flask) -> None:
        """See Flask-SQLAlchemy; the router does not connect before its first use."""
        if app.config.get("SQLALCHEMY_DATABASE_URI") is None and not app.config.get("SQLALCHEMY_BINDS"):
            for key, value in uris_from_environment().items():
                if not app.config.get(key):
                    app.config[key] = value
        _check(app)
        super().init_app(app)
        app.after_request(functools.partial(self._send_what_travels, app))

    @property
    def router(self) -> Router:
        """The current application's router. Needs an application context."""
        router = self._router_or_none()
        if router is None:
            raise ConfigurationError("SQLALCHEMY_DATABASE_URI is not set, so there is no default bind to route")
        return router

    @property
    def engines(self) -> Mapping[str | None, Engine]:
        """Bind keys and their engines; None is the primary of the moment."""
        engines = cast("dict[str | None, Engine]", super().engines)
        router = self._app_routers.get(current_app._get_current_object())  # type: ignore[attr-defined]
        if router is not None:
            engines[None] = router.primary_engine()
        return engines

    @property
    def has_bind_keys(self) -> bool:
        """True if there are binds besides the default one."""
        return len(self._app_engines[current_app._get_current_object()]) > 1  # type: ignore[attr-defined]

    def first_or_404(self, statement: Select[Any], *, description: str | None = None) -> Any:
        """As Flask-SQLAlchemy's; a miss on a replica is asked of the primary (``confirm_misses``)."""
        ask = functools.partial(super().first_or_404, statement, description=description)
        return confirmed(self.session(), ask, "first_or_404()")

    def one_or_404(self, statement: Select[Any], *, description: str | None = None) -> Any:
        """As Flask-SQLAlchemy's; a miss on a replica is asked of the primary (``confirm_misses``)."""
        ask = functools.partial(super().one_or_404, statement, description=description)
        return confirmed(self.session(), ask, "one_or_404()")

    def request_token(self) -> Token | None:
        """What the client of this request has written before, and must not be read behind."""
        return self._brought().token

    def _brought(self) -> travel.Brought:
        router = self._router_or_none()
        if router is None or not _uses_tokens(router) or not has_request_context():
            return travel.Brought()
        if "_rds_router_brought" not in g:
            g._rds_router_brought = travel.brought(current_app, request, router)
        return cast("travel.Brought", g._rds_router_brought)

    def _router_or_none(self) -> Router | None:
        self.engines  # noqa: B018  raises Flask-SQLAlchemy's own error without context or registration
        return self._app_routers.get(current_app._get_current_object())  # type: ignore[attr-defined]

    def _make_scoped_session(self, options: dict[str, Any]) -> Any:
        options.setdefault("class_", FlaskRoutingSession)
        given = options["class_"]
        if not issubclass(given, FlaskRoutingSession):
            # A session class of the user's own keeps its methods; routing comes before its get_bind.
            options["class_"] = type(given.__name__, (FlaskRoutingSession, given), {})
        made = super()._make_scoped_session(options)
        factory = cast("sessionmaker[RoutingSession]", made.session_factory)
        return scoped_session(factory, made.registry.scopefunc)

    def _make_engine(self, bind_key: str | None, options: dict[str, Any], app: Flask) -> Engine:
        if bind_key is not None:
            return super()._make_engine(bind_key, options, app)
        previous = self._app_routers.pop(app, None)
        if previous is not None:
            previous.close()
        options = dict(options)
        primary = options.pop("url")
        owner = weakref.ref(app)  # as in AppRouter
        router = AppRouter(
            Replica(primary, name=app.config.get("RDS_ROUTER_PRIMARY_NAME") or ""),
            [self._placed(each, app) for each in _replicas(app)],
            policy=RoutingPolicy.from_settings(
                policy_settings(app.config, PREFIX), prefix=PREFIX, base=policy_for(make_url(primary))
            ),
            engine_options=options,
            replica_engine_options=_options(app, "RDS_ROUTER_REPLICA_ENGINE_OPTIONS"),
            credentials=credentials_from(app.config.get("RDS_ROUTER_CREDENTIALS")),
            tls=tls_from(app.config.get("RDS_ROUTER_TLS")),
            on_engine=lambda engine, name, part: self._listen(owner(), engine),
            app=app,
        )
        engine = _first_engines(router)
        self._app_routers[app] = router
        return engine

    def _placed(self, replica: ReplicaLike, app: Flask) -> ReplicaLike:
        """A replica's URL with Flask-SQLAlchemy's own defaults: charset, paths relative to the instance."""
        given = replica if isinstance(replica, Replica) else Replica(replica)
        settings = {"url": given.url}
        self._apply_driver_defaults(settings, app)
        return Replica(settings["url"], name=given.name, weight=given.weight, zone=given.zone)

    def _listen(self, app: Flask | None, engine: Engine) -> None:
        # Flask-SQLAlchemy listens to the first primary itself; to listen twice with the same function is to do so once.
        if app is not None and app.config.get("SQLALCHEMY_RECORD_QUERIES"):
            record_queries._listen(engine)

    def _send_what_travels(self, app: Flask, response: Response) -> Response:
        """Tell the client's next request what this one wrote, and what it has shown him."""
        router = self._app_routers.get(app)
        if router is None or not _uses_tokens(router):
            return response
        # First, for what it is compared with: asking for the token may replace a moment by a position.
        trail = self._trail_to_send(router, response)
        brought, written = self._brought(), g.get("_rds_router_written")
        if written is not None and written != brought.token:
            # The session that wrote may be gone (remove()); a new one begins with the same token.
            token = cast("FlaskRoutingSession", self.session()).token
            self._send(app, response, router, travel.TOKEN, travel.signed(app, router, token))
        elif brought.is_spoilt:
            self._send(app, response, router, travel.TOKEN, travel.signed(app, router, None))
        if trail is not None:
            self._send(app, response, router, travel.TRAIL, travel.signed_trail(app, trail))
        return response

    def _send(self, app: Flask, response: Response, router: Router, what: travel.Carrier, text: str | None) -> None:
        if text is not None:
            travel.send(app, request, response, router, what, text)
        elif not app.config.get("_RDS_ROUTER_TOLD"):
            app.config["_RDS_ROUTER_TOLD"] = True
            _log.warning(
                "SECRET_KEY is not set: tokens cannot be signed, so a client's next request may miss his write, or "
                "what he has seen"
            )

    def _trail_to_send(self, router: Router, response: Response) -> Trail | None:
        """What the client has been shown, if he does not know it already and is to know it at all."""
        if not travel.remembers_seen(router) or travel.may_be_shared(response):
            return None
        trail = g._rds_router_trail if "_rds_router_trail" in g else self._trail_so_far()
        return None if trail is None or str(trail) == self._brought().trail else trail

    def _trail_so_far(self) -> Trail | None:
        if not (self.session.registry.has() or "_rds_router_seen" in g):
            return None  # nothing was read
        return self.session.trail

    def _leave_no_trail(self) -> None:
        """What this request reads from now on is not remembered."""
        if "_rds_router_trail" not in g:
            g._rds_router_trail = self._trail_so_far()


def reads(contract: str | Contract) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorator for a view: its reads are promised "any", "bounded(seconds)", "monotonic", "session" or "strong".

    Those of the stream that it returns too, and those of another session after ``db.session.remove()``. Raises
    ValueError for what is no contract.
    """
    promised = contract_of(contract)

    def decorated(view: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(view)
        def reading(*arguments: _P.args, **options: _P.kwargs) -> _R:
            db: SQLAlchemy = current_app.extensions["sqlalchemy"]
            if not (promised.monotonic or promised.strong) and has_request_context():
                db._leave_no_trail()
            call = functools.partial(current_app.ensure_sync(view), *arguments, **options)
            return cast("_R", promises.kept(db.session, promised, call))

        return reading

    return decorated


def primary_only(view: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorator for a view: all its reads go to the primary, ``@reads("strong")``."""
    return reads(STRONG)(view)


def _uses_tokens(router: Router) -> bool:
    return router.has_replicas and router.policy.after_write != "any"


def _replicas(app: Flask) -> list[ReplicaLike]:
    for mistaken in ("SQLALCHEMY_REPLICA_URI", "SQLALCHEMY_REPLICAS_URI", "SQLALCHEMY_REPLICAS"):
        if mistaken in app.config:
            raise ConfigurationError(
                f"{mistaken} is no setting of rds_router: the replicas are SQLALCHEMY_REPLICA_URIS"
            )
    given = app.config.setdefault("SQLALCHEMY_REPLICA_URIS", [])
    if given is None:
        return []
    if isinstance(given, str):
        given = [each.strip() for each in given.split(",") if each.strip()]
    if not isinstance(given, (list, tuple)):
        raise ConfigurationError(
            f"SQLALCHEMY_REPLICA_URIS is {shown(given)}, but must be a list of URLs or one comma-separated string"
        )
    for place, each in enumerate(given):
        checked_url(each.url if isinstance(each, Replica) else each, f"SQLALCHEMY_REPLICA_URIS[{place}]")
    return list(given)


def _options(app: Flask, key: str) -> dict[str, Any]:
    given = app.config.setdefault(key, {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{key} is {shown(given)}, but must be a dict of create_engine() arguments")
    if not isinstance(given.get("connect_args", {}), Mapping):
        raise ConfigurationError(
            f"{key}['connect_args'] is {shown(given['connect_args'])}, but must be a dict of the driver's arguments"
        )
    return dict(given)


def _check(app: Flask) -> None:
    """Refuse here, with the key, what Flask-SQLAlchemy would stumble over without naming it."""
    uri = app.config.get("SQLALCHEMY_DATABASE_URI")
    if uri is not None:
        checked_url(uri, "SQLALCHEMY_DATABASE_URI")
    store = app.config.get(travel.STORE_SETTING)
    if store is not None and store not in travel.STORES:
        accepted = " or ".join(repr(each) for each in travel.STORES)
        raise ConfigurationError(f"{travel.STORE_SETTING} is {store!r}, but must be {accepted}")
    name = app.config.get("RDS_ROUTER_PRIMARY_NAME")
    if name is not None and not isinstance(name, str):
        raise ConfigurationError(f"RDS_ROUTER_PRIMARY_NAME is {name!r}, but must be a string")
    _options(app, "SQLALCHEMY_ENGINE_OPTIONS")
    _options(app, "RDS_ROUTER_REPLICA_ENGINE_OPTIONS")
    _replicas(app)


def _first_engines(router: Router) -> Engine:
    """The primary's engine. All are made, which connects to nothing: options that are not accepted show at start."""
    uri, key = "SQLALCHEMY_DATABASE_URI", "SQLALCHEMY_ENGINE_OPTIONS"
    try:
        engine = router.primary_engine(start=False)
        uri, key = "SQLALCHEMY_REPLICA_URIS", "RDS_ROUTER_REPLICA_ENGINE_OPTIONS"
        for seen in router.topology.replicas:
            router.replica_engine(seen.server.name)
    except (ConfigurationError, SQLAlchemyError, TypeError, ValueError, AttributeError) as error:
        router.close()
        if isinstance(error.__context__, ImportError):
            raise ConfigurationError(f"{uri}: {error}") from None
        raise ConfigurationError(f"{key} must be a dict of create_engine() arguments: {error}") from None
    return engine
