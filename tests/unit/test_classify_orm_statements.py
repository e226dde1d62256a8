"""Every statement a Session sends by itself, to load what was asked for, is known for a read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import ForeignKey, String, create_engine, func, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    WriteOnlyMapped,
    column_property,
    deferred,
    immediateload,
    joinedload,
    lazyload,
    mapped_column,
    relationship,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    undefer,
    with_loader_criteria,
)
from sqlalchemy.pool import StaticPool

from rds_router.classify.cache import Classifier
from rds_router.core.statement import Kind


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    name: Mapped[str] = mapped_column(String(40))
    bio: Mapped[str] = deferred(mapped_column(String(400), default=""))
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("people.id"))
    boss: Mapped[Person | None] = relationship(remote_side=[id], back_populates="staff")
    staff: Mapped[list[Person]] = relationship(back_populates="boss", order_by="Person.name")
    pets: Mapped[list[Pet]] = relationship(secondary="owned", back_populates="owners")
    notes: WriteOnlyMapped[Note] = relationship()
    __mapper_args__ = {"polymorphic_on": kind, "polymorphic_identity": "person"}


class Engineer(Person):
    __tablename__ = "engineers"
    id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    tool: Mapped[str] = mapped_column(String(10), default="hammer")
    __mapper_args__ = {"polymorphic_identity": "engineer"}


class Owned(Base):
    __tablename__ = "owned"
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"), primary_key=True)
    pet_id: Mapped[int] = mapped_column(ForeignKey("pets.id"), primary_key=True)


class Pet(Base):
    __tablename__ = "pets"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    owners: Mapped[list[Person]] = relationship(secondary="owned", back_populates="pets")


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(ForeignKey("people.id"))


Person.note_count = column_property(  # type: ignore[attr-defined]
    select(func.count(Note.id)).where(Note.person_id == Person.id).scalar_subquery()
)


class Watched(Session):
    """Asks the classifier at each get_bind, as the router does."""

    classifier: Classifier
    verdicts: list[tuple[str, Any]]

    def get_bind(self, mapper: Any = None, *, clause: Any = None, **arguments: Any) -> Any:
        if clause is not None and not self._flushing:
            verdict = self.classifier.judge(clause)
            again = self.classifier.judge(clause)
            assert again is verdict or clause._generate_cache_key() is None
            self.verdicts.append((str(verdict), clause))
        return super().get_bind(mapper, clause=clause, **arguments)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        boss = Engineer(name="boss", staff=[Person(name="a", kind="person"), Engineer(name="b")])
        boss.pets = [Pet(name="rex")]
        session.add(boss)
        session.commit()
    yield engine
    engine.dispose()


@pytest.fixture(params=["mysql", "mariadb", "postgresql"])
def session(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Watched]:
    with Watched(engine) as session:
        session.classifier = Classifier(request.param)
        session.verdicts = []
        yield session


def touch(people: list[Person]) -> None:
    for person in people:
        _ = person.boss, person.staff, person.pets, person.bio, person.note_count  # type: ignore[attr-defined]
        if isinstance(person, Engineer):
            _ = person.tool
        for pet in person.pets:
            _ = pet.owners


LOADS: dict[str, Callable[[Session], Any]] = {
    "lazy loads": lambda s: touch(list(s.scalars(select(Person)))),
    "a subclass": lambda s: touch(list(s.scalars(select(Engineer)))),
    "get": lambda s: touch([s.get_one(Person, 1)]),
    "get, expired": lambda s: (s.get_one(Person, 1), s.expire_all(), touch([s.get_one(Person, 1)])),
    "refresh": lambda s: s.refresh(s.get_one(Person, 1)),
    "refresh of attributes": lambda s: s.refresh(s.get_one(Person, 1), ["bio", "staff"]),
    "joinedload": lambda s: s.scalars(select(Person).options(joinedload(Person.staff))).unique().all(),
    "nested joinedload": lambda s: s.scalars(
        select(Person).options(joinedload(Person.pets).joinedload(Pet.owners))
    ).unique().all(),
    "joinedload with limit": lambda s: s.scalars(
        select(Person).options(joinedload(Person.staff)).limit(2)
    ).unique().all(),
    "selectinload": lambda s: s.scalars(
        select(Person).options(selectinload(Person.staff).selectinload(Person.pets))
    ).all(),
    "selectinload many to many": lambda s: s.scalars(select(Pet).options(selectinload(Pet.owners))).all(),
    "subqueryload": lambda s: s.scalars(
        select(Person).options(subqueryload(Person.staff).subqueryload(Person.pets))
    ).all(),
    "immediateload": lambda s: s.scalars(select(Person).options(immediateload(Person.staff))).all(),
    "lazyload with criteria": lambda s: touch(
        list(s.scalars(select(Person).options(lazyload(Person.staff), with_loader_criteria(Person, Person.id > 0))))
    ),
    "undefer": lambda s: s.scalars(select(Person).options(undefer(Person.bio))).all(),
    "selectin polymorphic": lambda s: s.scalars(
        select(Person).options(selectin_polymorphic(Person, [Engineer]))
    ).all(),
    "write only": lambda s: s.scalars(s.get_one(Person, 1).notes.select()).all(),
    "query": lambda s: s.query(Person).filter(Person.id > 0).order_by(Person.id).all(),
    "query count": lambda s: s.query(Person).count(),
    "query exists": lambda s: s.query(s.query(Person).exists()).scalar(),
    "query get": lambda s: s.get(Person, 2),
    "yield per": lambda s: list(s.scalars(select(Person).execution_options(yield_per=1))),
    "populate existing": lambda s: s.scalars(select(Person).execution_options(populate_existing=True)).all(),
    "merge": lambda s: s.merge(Person(id=2, name="a", kind="person")),
}  # fmt: skip


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS.keys())
def test_what_a_session_sends_to_load_is_a_read(session: Watched, load: Callable[[Session], Any]) -> None:
    with session.no_autoflush:
        load(session)
    assert session.verdicts, "nothing was sent"
    assert [(verdict, str(clause)) for verdict, clause in session.verdicts if verdict != "read"] == []


def test_what_a_session_sends_to_lock_is_not(session: Watched) -> None:
    person = session.get_one(Person, 1)
    session.verdicts.clear()
    session.refresh(person, with_for_update=True)
    session.get(Person, 2, with_for_update={"read": True}, populate_existing=True)
    session.query(Person).with_for_update().all()
    kinds = {verdict for verdict, clause in session.verdicts}
    assert kinds == {f"{Kind.LOCKING_READ.value} (FOR UPDATE)", f"{Kind.LOCKING_READ.value} (FOR SHARE)"}
