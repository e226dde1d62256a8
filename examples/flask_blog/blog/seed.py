"""What the blog begins with. Names and texts are made up."""

from __future__ import annotations

import re
from datetime import timedelta

from sqlalchemy import select

from blog.models import Comment, Post, User, db, now


def seed() -> bool:
    """Fill empty tables. False, and nothing is changed, if somebody is there already."""
    # On the primary: a replica that lags would look empty.
    with db.session.using_primary():
        if db.session.scalar(select(User.id).limit(1)) is not None:
            return False
    users = {name: User(name=name, about=about) for name, about in _USERS.items()}
    db.session.add_all(users.values())
    age = timedelta(days=2, hours=3)
    for days, author, title, body, comments in reversed(_POSTS):
        written = now() - timedelta(days=days) - age
        post = Post(title=_typeset(title), body=_typeset(body), author=users[author], created_at=written)
        for number, (commentator, text) in enumerate(comments, start=1):
            at = written + timedelta(hours=5 * number, minutes=17 * number)
            post.comments.append(Comment(body=_typeset(text), author=users[commentator], created_at=at))
        db.session.add(post)
    db.session.commit()
    return True


def _typeset(text: str) -> str:
    """Source lines joined, blank lines kept, and the quotation marks of print."""
    joined = "\n\n".join(" ".join(block.split()) for block in text.strip().split("\n\n"))
    return re.sub(r'"([^"]*)"', "\u201c\\1\u201d", joined).replace("'", "\u2019")


_USERS = {
    "Ida Marsden": "Builds and mends small wooden boats in a shed that floods twice a year.",
    "Tomas Reyl": "Baker, up since three. Keeps notes on flour, weather and mistakes.",
    "Wren Okafor": "Grows vegetables on an allotment below the sea wall, mostly in spite of the wind.",
    "Henrik Aal": "Repairs clocks, radios and anything else that people have given up on.",
}

# Days ago, author, title, body, comments; newest first.
_POSTS = (
    (
        0,
        "Ida Marsden",
        "The tide table is a promise, not a plan",
        """
        High water was at 6:12 this morning, so I had the slip greased and the cradle ready at half past five.
        The table said 4.1 metres. What arrived was 3.8, because the wind had gone round to the east in the
        night and sat on the estuary like a hand on a drum.

        Three tenths of a metre does not sound like much. It is the difference between a boat that floats off
        her cradle with a small sigh and a boat that leans on you for twelve hours while you drink cold tea
        and apologise to her owner.

        I have decided to stop treating the table as the truth. It says what the moon intends. The gauge by
        the lock says what the water has done, eleven minutes ago. Between the two there is always a gap, and
        all my bad mornings live in it.
        """,
        (
            (
                "Henrik Aal",
                "Eleven minutes is very good for a gauge. Mine at the mill runs twenty behind and denies it.",
            ),
            ("Wren Okafor", "Did she float on the evening tide?"),
            ("Ida Marsden", "She did, at 18:40, as if nothing had happened."),
        ),
    ),
    (
        3,
        "Tomas Reyl",
        "What the dough knows at four in the morning",
        """
        You can read a recipe or you can read the dough, and at four in the morning only one of them is awake.
        The thermometer in the bakehouse said nineteen degrees. The dough said it was colder, and the dough
        was right: somebody had left the yard door open, and the draught ran along the floor where the tubs
        stand.

        I used to fix such mornings with more yeast. Now I fix them with more time. The shop opens at seven
        whether I am ready or not, so what gives is the second shaping, which nobody but me has ever missed.

        A customer asked why Thursday's loaf was better than Tuesday's. I told her the truth, which is that
        Tuesday's was made by the clock.
        """,
        (
            (
                "Wren Okafor",
                "I was that customer's neighbour in the queue. The Thursday loaf lasted one bus ride.",
            ),
            ("Ida Marsden", "Same with epoxy. The tin gives you minutes, the weather gives you the answer."),
        ),
    ),
    (
        6,
        "Wren Okafor",
        "Planting beans in a north-easterly",
        """
        The book says to sow after the last frost. The book was written inland. Here the frost leaves in April
        and the wind stays until June, and it is the wind that kills beans: it does not freeze them, it just
        reads them to death like a letter unfolded too often.

        This year I gave up on canes and put two old doors along the seaward side of the bed. They came from
        the chapel hall, they are ugly, and they have cut the wind at knee height to nearly nothing. I
        measured it with a ribbon on a stick, which is all the science an allotment will hold.

        Eleven of twelve plants are through. The twelfth had a slug and a very short life.
        """,
        (("Tomas Reyl", "Leave the brass handle on. One day somebody will try to open it."),),
    ),
    (
        10,
        "Henrik Aal",
        "A radio that only spoke at night",
        """
        Mrs Dahl brought in her father's receiver, and with it a ghost story: silent all day, clear as a bell
        after ten in the evening. Three people had looked inside and found nothing wrong, because they all
        looked in the daytime, with the set on a warm bench.

        It was a cracked joint under the tuning coil. Her kitchen is heated until nine; when the room cools,
        the chassis shrinks by the width of a hair, the crack closes, and the set begins to speak. On a
        workshop bench it never gets cold enough to work.

        The repair took four minutes. Finding it took three evenings in an unheated room with a blanket and a
        torch. I charged her for the four minutes, and she paid for the rest in plum cake.
        """,
        (
            ("Ida Marsden", "This is every leak I have ever chased. Dry on the hard, wet on the mooring."),
            ("Tomas Reyl", "What kind of plum cake? This matters."),
            ("Henrik Aal", "Yeast dough, halved plums, almonds. You would have had nothing to correct."),
        ),
    ),
    (
        15,
        "Ida Marsden",
        "On keeping two of everything that matters",
        """
        My grandfather kept two of every tool he could not work without, and lent neither. I thought it was
        meanness. Then my one good adze went over the side on a Friday before a bank holiday, and I understood
        that the second adze is not a tool at all. It is a weekend.

        But two of everything is only worth it if both are looked after. The spare that has hung on its nail
        for six years is not a spare, it is a surprise. So now I use them turn about, odd weeks and even
        weeks, and I know exactly which of them is the worse one.

        The same goes for pumps, for anchors and, I am told, for friends with vans.
        """,
        (("Henrik Aal", "A spare you never use is just a belief. I may paint that over the bench."),),
    ),
    (
        19,
        "Tomas Reyl",
        "Notes on a bad batch",
        """
        Ninety-six loaves, all flat. I am writing it down because I want to remember the order in which I
        blamed things: the flour, the mill, the new boy, the oven, the weather, and only then the salt, which
        I had weighed twice. Not checked twice. Put in twice.

        We sold forty of them as flatbread with a sign that said so, and gave the others to Wren's hens, who
        have no views about salt or keep them to themselves.

        What I changed: the salt now stands on the left of the scale before it goes in and on the right
        afterwards. It is a stupid system. It cannot fail in a stupid way, and that is what I want from it.
        """,
        (
            ("Wren Okafor", "The hens drank like sailors but laid as usual."),
            ("Ida Marsden", "Left before, right after. I do the same with bungs."),
        ),
    ),
    (
        24,
        "Wren Okafor",
        "The compost heap as a slow clock",
        """
        There are three heaps. What goes on the first this autumn is soil in the third two springs from now,
        so the garden always eats what I was thinking the year before last. It makes you careful about what
        you throw away.

        People ask how often to turn it. The honest answer is: when you are curious. A heap that is turned
        every week is quicker by a month or so, and you will have spent that month turning a heap.

        Mine steams on cold mornings. The robin has noticed, and sits there with his feet in the warm, like a
        man reading the paper.
        """,
        (),
    ),
    (
        29,
        "Henrik Aal",
        "Three clocks in one room",
        """
        With one clock you know the time. With two you are never sure. With three you can hold a vote, and
        that is how it is done in my workshop: the regulator on the wall, the ship's chronometer, and the
        radio-controlled plastic thing from the petrol station.

        They never agree to the second, and it took me years to see that they need not. What I want to know is
        not which one is right. I want to know how far each of them is off, and whether it is off by more than
        yesterday. A clock that loses nine seconds a day, every day, is a fine clock. You only need to know
        it.

        The plastic one is the most accurate, by the way. It is also the only one I have ever had to throw
        away.
        """,
        (
            ("Ida Marsden", "So a steady liar beats an honest drunk."),
            ("Henrik Aal", "In clocks. Only in clocks."),
        ),
    ),
    (
        35,
        "Ida Marsden",
        "Steaming oak without a steam box",
        """
        The box I had was four metres long and took an hour to get hot. The plank I needed to bend was one
        metre twenty. I did what they do in Norway with a kettle and a length of plastic tube: slide the
        sleeve over the place that must bend, and steam only that.

        An hour for each inch of thickness, as ever, and then about forty seconds to get it round the mould
        before it remembers that it is oak. Have the clamps open. Have a second pair of hands, and have the
        argument about where they should be before you take the sleeve off.

        One out of seven cracked. That is better than the box.
        """,
        (),
    ),
    (
        41,
        "Tomas Reyl",
        "Rye wants nothing from you",
        """
        Wheat has to be persuaded. You knead it, fold it, rest it, and it rewards you for your attention like
        a dog. Rye is a cat. Mix it, put it in a tin, go away.

        The old bakers on this coast made it once a fortnight and ate it from the third day on, because before
        that it is damp and afterwards it is perfect. I keep telling people. They cut it warm anyway, and come
        back to say that it is sticky.

        So I have started to sell it three days old, and to charge a little more. Nobody has complained since.
        """,
        (("Wren Okafor", "Can confirm: day five, with butter, in the shed, in the rain."),),
    ),
    (
        48,
        "Henrik Aal",
        "Labels for things taken apart",
        """
        Anything you take apart is a letter to the person who puts it together, and most of the time that
        person is you, in six weeks, with no memory of it at all. So write the letter properly.

        I use luggage tags. Not "spring" but "spring, behind the big wheel, hook towards the window". Not
        "screw, long" but "the long one, left; the right one is shorter and somebody before me got it wrong".
        A photograph helps less than you would think, as it shows everything and points at nothing.

        A man came in last week with a clock in a biscuit tin, no tags. I gave him a cup of coffee and a short
        lecture, and it will be ready by autumn.
        """,
        (("Tomas Reyl", "My recipe book needs you."),),
    ),
    (
        56,
        "Wren Okafor",
        "Saving seed from the worst tomato",
        """
        Everybody saves seed from the best plant, and so did I, until the wet summer when the best plant was
        the one that happened to stand under the greenhouse roof. Its children sulked from May to September.

        The year after I chose differently: the plant in the worst corner, salt wind, bad soil, half a day of
        shade, that gave me nine tomatoes when it had every right to give none. Those nine were small and
        thick-skinned. Their children are up to my shoulder, out there, in the same corner.

        Choose the one that did well where it was hard. It is not only about tomatoes, but mostly it is.
        """,
        (("Ida Marsden", "I have an adze like that."),),
    ),
)
