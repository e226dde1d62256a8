"""What README and docs say is so."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import String, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from rds_router import Router, RoutingPolicy, events
from rds_router.lab import cluster
from rds_router.settings import OTHER_KEYS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md")) + sorted(
    ROOT.glob("*.md")
)
FIELDS = {item.name: item for item in dataclasses.fields(RoutingPolicy)}


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_that_are_named_exist(page: Path) -> None:
    known = {f"RDS_ROUTER_{name.upper()}" for name in FIELDS} | {f"RDS_ROUTER_{name}" for name in OTHER_KEYS}
    others = {"RDS_ROUTER_REQUIRE", "RDS_ROUTER_SKIP", "RDS_ROUTER_DOCKER", "RDS_ROUTER_AGAIN"}  # for tests and lab
    for name in re.findall(r"RDS_ROUTER_[A-Z_]+[A-Z]", page.read_text(encoding="utf-8")):
        assert name in known | others or name.startswith("RDS_ROUTER_LAB"), name


def test_every_field_of_the_policy_is_documented_with_its_default() -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    policy = RoutingPolicy()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \| .+ \| .+ \|$", text.split("## Policy")[1], re.M))
    assert rows == {name: repr(getattr(policy, name)) for name in FIELDS}


def test_every_event_is_documented() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8").split("## Events")[1]
    assert [each.__name__ for each in events.Event.__subclasses__() if f"`{each.__name__}`" not in text] == []


class Base(DeclarativeBase):
    """Of the README's Post."""


class Post(Base):
    """The README's."""

    __tablename__ = "posts"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(80))


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    with cluster("sqlite", replicas=1) as shared:
        with Router(shared.primary.url) as router:
            Base.metadata.create_all(router.primary)
        shared.wait_caught_up()
        yield shared.primary.url, shared.replicas[0].url


def test_the_readme_without_flask_runs(urls: tuple[str, str]) -> None:
    (program,) = (each for each in code_blocks(ROOT / "README.md", "python") if "sessionmaker(class_" in each)
    program, count = re.subn(r'"postgresql[^"]+"', lambda found: repr(urls["10.0" in found[0]]), program)
    assert count == 2
    exec(compile(program, "README.md", "exec"), {"Post": Post})
    with Router(urls[0]) as router, Session(router.primary) as session:
        assert [post.title for post in session.query(Post)] == ["Hello"]


def test_two_sessions_made_up_front_work_too(urls: tuple[str, str]) -> None:
    """The README offers them to who prefers the advice of SQLAlchemy's documentation."""
    with Router(urls[0], replicas=[urls[1]]) as router:
        router.refresh()
        with sessionmaker(router.reader)() as reader, sessionmaker(router.primary)() as writer:
            assert reader.connection().engine.url.database == make_url(urls[1]).database
            assert writer.connection().engine.url.database == make_url(urls[0]).database


def test_each_decision_has_a_number_of_its_own() -> None:
    numbers = [page.name[:4] for page in (ROOT / "docs" / "decisions").glob("0*.md")]
    assert sorted(set(numbers)) == sorted(numbers)
