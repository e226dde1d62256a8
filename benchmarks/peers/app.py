"""A small blog under Flask: the same code for everybody; only where its sessions come from differs.

Loaded by gunicorn under the peers' interpreter; ``sites.py`` says in ``RDS_ROUTER_PEER`` what the sessions go through
(``rds_router.torture.ways``). A view that only reads says so, as aws-advanced-python-wrapper and the proxies need to be
told; the others do not listen.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response, abort, g, request
from sqlalchemy import select, text
from sqlalchemy.orm import Session, joinedload
from werkzeug.exceptions import HTTPException

from benchmarks.blog_tables import Comment, Post
from rds_router.torture.jar import Cookie
from rds_router.torture.ways import way_for

app = Flask(__name__)
way = way_for(json.loads(os.environ["RDS_ROUTER_PEER"]))


@contextmanager
def session(*, writes: bool) -> Iterator[Session]:
    """One for this request. What its author wrote and saw comes and goes by cookies, where a way has that."""
    cookie = Cookie(0, request.cookies.get("token", ""), request.cookies.get("trail", ""))
    with way.session(cookie, writes=writes) as found:
        yield found
        way.keep(found, cookie)
    g.kept = {"token": cookie.token, "trail": cookie.trail}


@app.after_request
def keep_cookies(response: Response) -> Response:
    for name, value in g.pop("kept", {}).items():
        if value and value != request.cookies.get(name):
            response.set_cookie(name, value, httponly=True)
    return response


@app.errorhandler(Exception)
def failed(error: Exception) -> Any:
    """What it was, for the visitors' account."""
    if isinstance(error, HTTPException):
        return error
    original = getattr(error, "orig", None) or error
    words = re.sub(r" at 0x[0-9a-f]+", "", str(original).partition("\n")[0])
    return f"{type(original).__name__}: {words}", 500


@app.get("/posts")
def front() -> list[dict[str, Any]]:
    with session(writes=False) as found:
        newest = select(Post).options(joinedload(Post.author)).order_by(Post.id.desc()).limit(10)
        return [{"id": post.id, "title": post.title, "by": post.author.name} for post in found.scalars(newest)]


@app.get("/posts/<int:number>")
def page(number: int) -> dict[str, Any]:
    with session(writes=False) as found:
        post = found.get(Post, number)
        if post is None:
            abort(404)
        comments = found.scalars(select(Comment).where(Comment.post_id == number).limit(20))
        return {"title": post.title, "by": post.author.name, "comments": [each.body for each in comments]}


@app.post("/posts")
def create() -> dict[str, Any]:
    with session(writes=True) as found:
        post = Post(author_id=1, title=request.form["title"])
        found.add(post)
        found.commit()
        return {"id": post.id}


@app.post("/posts/<int:number>")
def edit(number: int) -> dict[str, Any]:
    with session(writes=True) as found:
        post = found.get(Post, number)
        if post is None:
            abort(404)
        post.title = request.form["title"]
        found.commit()
        return {"id": number}


@app.post("/posts/<int:number>/title")
def rename(number: int) -> dict[str, Any]:
    """The same in SQL, as applications have it here and there."""
    with session(writes=True) as found:
        found.execute(
            text("UPDATE posts SET title = :title WHERE id = :id"), {"title": request.form["title"], "id": number}
        )
        found.commit()
        return {"id": number}
