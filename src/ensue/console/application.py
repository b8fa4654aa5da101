"""The console as an ASGI application: to be served by itself, or mounted in another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ensue.app import App
from ensue.console import guarding, live, rendering, signing
from ensue.console.access import Recognise, Role, Tokens, loopback
from ensue.console.actions import ACTIONS, carry_out, from_form
from ensue.console.api import Api
from ensue.console.entrance import Entrance, fields_of, inside, refused, root_of
from ensue.console.guarding import CSRF_COOKIE, Guarded, check_form, check_origin, csrf_of, is_secure
from ensue.console.troubles import status_of, told
from ensue.console.views import VIEWS
from ensue.console.visits import Answer, Document, Page, Redirect, Visit
from ensue.errors import ConsoleRefused, UnknownName

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}


class Console:
    """The console of an application.

    `access` says who sends a request: a function that is given it and returns a `Visitor`, or None; sync or async. It
    is where the host application's own authentication comes in. `Tokens` is one; without any, only this machine is let
    in, with every right.

    `also` are other applications whose logs are looked at for causes and consequences. Mount it where you like: it
    makes its links from the `root_path` that the server gives. Nothing is loaded from elsewhere.
    """

    def __init__(self, app: App, *, access: Recognise | None = None, also: Sequence[App] = ()) -> None:
        self.entrance = Entrance(app, access or loopback, tuple(also))
        self._asgi = Guarded(Starlette(routes=self._routes()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._asgi(scope, receive, send)

    def _routes(self) -> list[Route]:
        return [
            Route("/static/{name:path}", self._static),
            *signing.routes(self.entrance),
            *live.routes(self.entrance),
            *Api(self.entrance).routes(),
            Route("/do/{action}", self._act, methods=["POST"]),
            *(
                Route(path, self._endpoint(view, role), methods=["GET"] if path not in _POSTED else ["GET", "POST"])
                for path, (view, role) in VIEWS.items()
            ),
            Route("/{path:path}", self._endpoint(_nothing, "see")),
        ]

    # --- answers

    def _endpoint(self, view: Callable[[Visit], Answer], role: Role) -> Callable[..., object]:
        async def endpoint(request: Request) -> Response:
            visitor = await self.entrance.visitor(request)
            if visitor is None:
                return self._refuse(request)
            visit = self.entrance.visit(request, visitor)
            try:
                if request.method == "POST":
                    visit = self.entrance.visit(request, visitor, await self._form(request))
                visit.need(role)
                answer = await run_in_threadpool(view, visit)
            except Exception as error:  # noqa: BLE001 what nobody can mend is raised again
                answer = self._trouble(visit, error)
            return await run_in_threadpool(self._answer, visit, answer)

        return endpoint

    async def _act(self, request: Request) -> Response:
        """Carry out an action that a form asks for; the page that it names comes next."""
        visitor = await self.entrance.visitor(request)
        if visitor is None:
            return self._refuse(request)
        visit, back = self.entrance.visit(request, visitor), "/"
        try:
            form = await self._form(request)
            back = inside(form.pop("back", "/"))
            action = ACTIONS.get(request.path_params["action"])
            if action is None:
                raise UnknownName(f"there is no action {request.path_params['action']!r}")
            given = from_form(action, form)
            done = await run_in_threadpool(carry_out, action, given, self.entrance.visit(request, visitor, form))
            answer: Answer = Redirect(f"/jobs/{done.job}" if done.job is not None else back, done.told)
        except ConsoleRefused as error:
            answer = self._trouble(visit, error)
        except Exception as error:  # noqa: BLE001 what nobody can mend is raised again
            status_of(error)
            answer = Redirect(back, told(error, payloads=visitor.payloads), wrong=True)
        return await run_in_threadpool(self._answer, visit, answer)

    async def _form(self, request: Request) -> dict[str, str]:
        check_origin(request)
        pairs = await fields_of(request)
        form = dict(pairs)
        check_form(request, form)
        form.pop(guarding.CSRF_FIELD)
        if "letters" in form:  # what is ticked
            form["letters"] = "\n".join(value for name, value in pairs if name == "letters")
        return form

    def _trouble(self, visit: Visit, error: Exception) -> Page:
        status = status_of(error)
        if isinstance(error, ConsoleRefused):
            refused(visit.request, visit.visitor, error)
        words = told(error, payloads=visit.visitor.payloads)
        return Page("trouble.html", {"told": words, "title": "That did not work"}, status=status)

    def _refuse(self, request: Request) -> Response:
        root = root_of(request)
        if isinstance(self.entrance.access, Tokens):
            path, query = request.url.path.removeprefix(root) or "/", request.url.query
            if request.headers.get("hx-request") == "true":
                return Response(status_code=401, headers={"HX-Redirect": f"{root}/sign-in"})
            after = quote(f"{path}?{query}" if query and request.method == "GET" else path, safe="")
            return RedirectResponse(f"{root}/sign-in?next={after}", status_code=303)
        return HTMLResponse(rendering.environment().get_template("refused.html").render(root=root), status_code=403)

    def _answer(self, visit: Visit, answer: Answer) -> Response:
        match answer:
            case Redirect():
                response: Response = RedirectResponse(visit.root + answer.path, status_code=303)
                if answer.told:
                    packed = rendering.packed(answer.told, wrong=answer.wrong)
                    self._cookie(visit, response, rendering.FLASH, packed)
            case Document():
                response = Response(answer.text, media_type=answer.media_type)
            case Page():
                text = rendering.page(visit, answer.template, dict(answer.values))
                response = HTMLResponse(text, status_code=answer.status)
                if rendering.FLASH in visit.request.cookies:
                    response.delete_cookie(rendering.FLASH, path=visit.root or "/")
                csrf, new = visit.csrf, csrf_of(visit.request)[1]
                if new:
                    self._cookie(visit, response, CSRF_COOKIE, csrf)
        return response

    def _cookie(self, visit: Visit, response: Response, name: str, value: str) -> None:
        secure, path = is_secure(visit.request), visit.root or "/"
        response.set_cookie(name, value, path=path, secure=secure, httponly=True, samesite="strict")

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        found = rendering.assets().get(name)
        if found is None:
            return Response("there is no such file", status_code=404, media_type="text/plain")
        media = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        return Response(found, media_type=media, headers={"Cache-Control": "public, max-age=86400"})


_POSTED = ("/dead/{position}/edit",)


def _nothing(visit: Visit) -> Answer:
    raise UnknownName(f"there is no page {visit.path}")
