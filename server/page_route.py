"""How pages answer for what went wrong: with a page, since a person looks at them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from server.errors import FORESEEN, page_response, problem_of


class PageRoute(APIRoute):
    """What is asked of a page and cannot be answered is told by a page, not by a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await handle(request)
            except FORESEEN as error:
                if request.method != "GET":  # a script's call
                    raise
                return page_response(problem_of(error))

        return page


def here(request: Request) -> str:
    """This page's own address without its host: what htmx fetches again."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
