"""Posts and comments: the blog itself. Nothing here knows of replicas."""

from __future__ import annotations

from typing import TypeVar

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from sqlalchemy import func, select
from sqlalchemy.orm import selectinload
from werkzeug.wrappers import Response

from blog.forms import Form
from blog.models import BODY_LENGTH, COMMENT_LENGTH, TITLE_LENGTH, Comment, Post, db, now
from blog.people import signed_in

blueprint = Blueprint("posts", __name__)
_Owned = TypeVar("_Owned", Post, Comment)


@blueprint.get("/")
def index() -> str:
    """All posts, newest first, by pages."""
    page = db.paginate(
        select(Post).order_by(Post.created_at.desc(), Post.id.desc()).options(selectinload(Post.author)),
        per_page=current_app.config["POSTS_PER_PAGE"],
        max_per_page=50,
    )
    found = db.session.execute(
        select(Comment.post_id, func.count(Comment.id))
        .where(Comment.post_id.in_([post.id for post in page.items]))
        .group_by(Comment.post_id)
    )
    comments = {post_id: count for post_id, count in found}  # noqa: C416  dict() takes a Result for a mapping
    return render_template("index.html", page=page, comments=comments)


@blueprint.get("/posts/<int:post_id>")
def show(post_id: int) -> str:
    """One post and what was said about it."""
    return _page(post_id, Form({"comment": COMMENT_LENGTH}))


@blueprint.route("/posts/new", methods=["GET", "POST"])
def create() -> str | tuple[str, int] | Response:
    """Write a post."""
    author, form = signed_in(), _post_form()
    if request.method == "GET":
        return render_template("edit.html", form=form, post=None)
    if not form.fill(request.form):
        return render_template("edit.html", form=form, post=None), 400
    post = Post(title=form.values["title"], body=form.values["text"], author_id=author.id)
    db.session.add(post)
    db.session.flush()
    page = url_for("posts.show", post_id=post.id)
    db.session.commit()
    flash("Your post is published.")
    return redirect(page)


@blueprint.route("/posts/<int:post_id>/edit", methods=["GET", "POST"])
def edit(post_id: int) -> str | tuple[str, int] | Response:
    """Change a post of one's own."""
    post, form = _own(Post, post_id), _post_form()
    if request.method == "GET":
        form.values = {"title": post.title, "text": post.body}
        return render_template("edit.html", form=form, post=post)
    if not form.fill(request.form):
        return render_template("edit.html", form=form, post=post), 400
    post.title, post.body, post.edited_at = form.values["title"], form.values["text"], now()
    db.session.commit()
    flash("Your changes are saved.")
    return redirect(url_for("posts.show", post_id=post_id))


@blueprint.post("/posts/<int:post_id>/delete")
def delete(post_id: int) -> Response:
    """Take a post of one's own away, with its comments."""
    post = _own(Post, post_id)
    db.session.delete(post)
    db.session.commit()
    flash("Your post is gone.")
    return redirect(url_for("posts.index"))


@blueprint.post("/posts/<int:post_id>/comments")
def comment(post_id: int) -> str | tuple[str, int] | Response:
    """Say something about a post."""
    author, form = signed_in(), Form({"comment": COMMENT_LENGTH})
    if not form.fill(request.form):
        return _page(post_id, form), 400
    # Locked, so that it cannot be deleted meanwhile.
    db.get_or_404(Post, post_id, description="This post is gone.", with_for_update=True)
    db.session.add(Comment(body=form.values["comment"], post_id=post_id, author_id=author.id))
    db.session.commit()
    flash("Your comment is published.")
    return redirect(url_for("posts.show", post_id=post_id, _anchor="comments"))


@blueprint.post("/comments/<int:comment_id>/delete")
def delete_comment(comment_id: int) -> Response:
    """Take a comment of one's own away."""
    found = _own(Comment, comment_id)
    post_id = found.post_id
    db.session.delete(found)
    db.session.commit()
    flash("Your comment is gone.")
    return redirect(url_for("posts.show", post_id=post_id, _anchor="comments"))


def _page(post_id: int, form: Form) -> str:
    post = db.get_or_404(
        Post,
        post_id,
        description="This post does not exist, or not any more.",
        options=[selectinload(Post.author), selectinload(Post.comments).selectinload(Comment.author)],
    )
    return render_template("post.html", post=post, form=form)


def _post_form() -> Form:
    return Form({"title": TITLE_LENGTH, "text": BODY_LENGTH})


def _own(entity: type[_Owned], ident: int) -> _Owned:
    """What is to be changed: 404 if it is gone, 403 if it is somebody else's. Locked when a change follows."""
    author = signed_in()
    found = db.get_or_404(
        entity,
        ident,
        description="This is gone, or never was.",
        with_for_update=True if request.method == "POST" else None,
    )
    if found.author_id != author.id:
        abort(403, "Only its author may change this.")
    return found
