"""How pages answer for what is not there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from server.errors import NotFoundError
from web.pages import not_found_page


class PageRoute(APIRoute):
    """A page about something that is not there answers with a page, not with a problem document."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await handle(request)
            except NotFoundError as error:
                return HTMLResponse(not_found_page(error.message), HTTPStatus.NOT_FOUND)

        return page


def here(request: Request) -> str:
    """This page's own address without its host: what htmx fetches again."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
