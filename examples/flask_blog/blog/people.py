"""Authors, and who is reading: a choice kept in the session, without a password. This is an example."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Flask, abort, flash, g, redirect, render_template, request, session, url_for
from sqlalchemy import func, select
from sqlalchemy.orm import selectinload
from werkzeug.wrappers import Response

from blog.forms import local_path
from blog.models import Post, User, db

blueprint = Blueprint("people", __name__)


def init_app(app: Flask) -> None:
    """Tell the templates who is reading."""
    app.add_template_global(current_user)


def current_user() -> User | None:
    """Who is signed in; asked of the database once a request."""
    if "user" not in g:
        user_id = session.get("user_id")
        g.user = None if user_id is None else db.session.get(User, user_id)
    return g.user if isinstance(g.user, User) else None


def signed_in() -> User:
    """Who is signed in; sends anybody else to the page where one signs in."""
    user = current_user()
    if user is None:
        # A form cannot be sent again after signing in: back to the page it was on.
        back = request.path if request.method == "GET" else urlsplit(request.referrer or "").path
        flash("Choose who you are first.")
        abort(redirect(url_for("people.sign_in", next=back)))
    return user


@blueprint.get("/authors")
def index() -> str:
    """Everybody who writes here."""
    found = db.session.execute(select(Post.author_id, func.count(Post.id)).group_by(Post.author_id))
    counts = {author_id: count for author_id, count in found}  # noqa: C416  dict() takes a Result for a mapping
    users = db.session.scalars(select(User).order_by(User.name)).all()
    return render_template("authors.html", users=users, counts=counts)


@blueprint.get("/authors/<int:user_id>")
def show(user_id: int) -> str:
    """One author and the posts."""
    user = db.get_or_404(User, user_id, description="There is no such author.")
    found = db.session.scalars(
        select(Post)
        .where(Post.author_id == user_id)
        .order_by(Post.created_at.desc(), Post.id.desc())
        .options(selectinload(Post.author))
    )
    return render_template("author.html", author=user, posts=found.all())


@blueprint.route("/sign-in", methods=["GET", "POST"])
def sign_in() -> str | Response:
    """Choose who to be."""
    back = local_path(request.values.get("next"))
    if request.method == "POST":
        user = db.get_or_404(User, request.form.get("user_id", type=int) or 0)
        session["user_id"] = user.id
        flash(f"You write as {user.name} now.")
        return redirect(back)
    users = db.session.scalars(select(User).order_by(User.name)).all()
    return render_template("sign_in.html", users=users, next=back)


@blueprint.post("/sign-out")
def sign_out() -> Response:
    """Be nobody again."""
    session.pop("user_id", None)
    flash("You are signed out.")
    return redirect(url_for("posts.index"))
