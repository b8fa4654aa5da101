"""FastAPI over HTTP: a transaction for each request, requests that record once, the worker in the lifespan."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from ensue import App, IntegrationEvent
from ensue.app import OwnAsyncConnection
from ensue.integrations.fastapi import Once, RequestContext, lifespan, once, transaction
from ensue.integrations.health import Pulse
from tests.patience import until
from tests.servers import free_port


class Base(DeclarativeBase):
    pass


class Member(Base):
    __tablename__ = "members"
    email: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[UUID]


class MemberJoined(IntegrationEvent, version=1, key="email", name="test.fastapi.joined"):
    id: UUID
    email: str


class Site(NamedTuple):
    app: App
    api: FastAPI
    welcomed: list[tuple[str, str, str | None]]
    pulse: Pulse


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'site.db'}"
    made: str = request.getfixturevalue("postgres_url")
    return made


@pytest.fixture
def site(url: str, schema: str) -> Iterator[Site]:
    """Make a small site, on the connections of its own SQLAlchemy, async and sync."""
    app = App("site", url, schema=schema)
    app.migrate()
    alchemy = url.replace("postgresql://", "postgresql+psycopg://")
    sync_engine = create_engine(alchemy)
    engine = create_async_engine(alchemy.replace("sqlite://", "sqlite+aiosqlite://"))
    Base.metadata.drop_all(sync_engine)
    Base.metadata.create_all(sync_engine)
    sessions, sync_sessions = async_sessionmaker(engine), sessionmaker(sync_engine)
    welcomed: list[tuple[str, str, str | None]] = []
    pulse = Pulse()

    @app.on(MemberJoined, start="beginning")
    async def welcome(event: MemberJoined, delivery: Any) -> None:
        welcomed.append((event.email, delivery.correlation_id, delivery.recorded.metadata.traceparent))

    @asynccontextmanager
    async def around(api: FastAPI) -> AsyncGenerator[None]:
        async with lifespan(app, pulse=pulse)(api):
            yield
        await engine.dispose()

    api = FastAPI(lifespan=around)
    api.add_middleware(RequestContext)
    InSession = Annotated[AsyncSession, transaction(sessions.begin)]  # noqa: N806
    InSyncSession = Annotated[Session, transaction(sync_sessions.begin)]  # noqa: N806
    InConnection = Annotated[OwnAsyncConnection, transaction(app.transaction)]  # noqa: N806
    Key = Annotated[Once, once(app, who=lambda request: request.headers.get("x-user", ""))]  # noqa: N806

    @api.post("/members", status_code=201)
    async def join(email: str, request: Request, session: InSession, key: Key) -> dict[str, str]:
        await request.body()
        member = Member(email=email, id=uuid4())
        receipt = await key.record(MemberJoined(id=member.id, email=email), via=session)
        if receipt.duplicate:
            found = (await session.execute(select(Member).where(Member.email == email))).scalar_one()
            return {"id": str(found.id)}
        session.add(member)
        return {"id": str(member.id)}

    @api.post("/sync/members", status_code=201)
    def join_sync(email: str, session: InSyncSession, key: Key) -> dict[str, bool]:
        receipt = key.record(MemberJoined(id=uuid4(), email=email), via=session)
        if not receipt.duplicate:
            session.add(Member(email=email, id=uuid4()))
        return {"new": not receipt.duplicate}

    @api.post("/refused")
    async def refuse(email: str, connection: InConnection) -> None:
        await app.record(MemberJoined(id=uuid4(), email=email), via=connection)
        raise HTTPException(409, "no")

    @api.post("/plain", status_code=204)
    async def plain(email: str, connection: InConnection) -> None:
        await app.record(MemberJoined(id=uuid4(), email=email), via=connection)

    yield Site(app, api, welcomed, pulse)
    sync_engine.dispose()


@asynccontextmanager
async def served(api: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """Serve it as uvicorn does, and yield a client."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(api, port=port, log_level="warning"))
    serving = asyncio.ensure_future(server.serve())
    try:
        await until(lambda: server.started or serving.done())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


async def test_a_key_records_once_and_the_worker_follows(site: Site) -> None:
    async with served(site.api) as client:
        key = {"Idempotency-Key": "k1"}
        first = await client.post("/members?email=ada", headers=key)
        assert first.status_code == 201
        again = await client.post("/members?email=ada", headers=key)
        assert (again.status_code, again.json()) == (201, first.json())
        assert (await client.post("/members?email=bert", headers={"Idempotency-Key": "k2"})).status_code == 201
        await until(lambda: len(site.welcomed) == 2)
        assert (await asyncio.to_thread(site.pulse.feel)).well
    assert [each.event.email for each in site.app.read()] == ["ada", "bert"]


async def test_many_at_once_under_one_key(site: Site) -> None:
    async with served(site.api) as client:
        answers = await asyncio.gather(
            *(client.post("/members?email=ada", headers={"Idempotency-Key": "k"}) for _ in range(8))
        )
    assert {each.status_code for each in answers} == {201}
    assert len({each.json()["id"] for each in answers}) == 1
    assert len(list(site.app.read())) == 1


async def test_sync_functions_and_whose_key_it_is(site: Site) -> None:
    async with served(site.api) as client:
        for user, email, new in (("u1", "ada", True), ("u1", "ada", False), ("u2", "bert", True)):
            headers = {"Idempotency-Key": "k", "X-User": user}
            answer = await client.post(f"/sync/members?email={email}", headers=headers)
            assert (answer.status_code, answer.json()) == (201, {"new": new}), user
    assert len(list(site.app.read())) == 2


async def test_keys_that_will_not_do(site: Site) -> None:
    async with served(site.api) as client:
        assert (await client.post("/members?email=ada")).status_code == 400
        assert (await client.post("/members?email=ada", headers={"Idempotency-Key": "k" * 256})).status_code == 400
        for path in ("/members", "/sync/members"):
            key = {"Idempotency-Key": "k"}
            first = await client.post(f"{path}?email={path}", headers=key, content=b"one")
            assert first.status_code == 201
            other = await client.post(f"{path}?email={path}", headers=key, content=b"another")
            assert (other.status_code, other.json()["detail"]) == (
                422,
                "this key was used for another request: send a new one",
            )
    assert len(list(site.app.read())) == 2


async def test_what_raises_records_nothing_and_an_answer_is_committed(site: Site) -> None:
    async with served(site.api) as client:
        assert (await client.post("/refused?email=ada")).status_code == 409
        assert list(site.app.read()) == []
        assert (await client.post("/plain?email=ada")).status_code == 204
        assert len(list(site.app.read())) == 1, "committed before the answer"


async def test_events_belong_to_the_request(site: Site) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with served(site.api) as client:
        answer = await client.post("/plain?email=ada", headers={"X-Request-ID": "r-1", "traceparent": trace})
        assert answer.headers["X-Request-ID"] == "r-1"
        other = await client.post("/plain?email=bert")
        await until(lambda: len(site.welcomed) == 2)
    made = other.headers["X-Request-ID"]
    assert sorted(site.welcomed) == [("ada", "r-1", trace), ("bert", made, None)]
    UUID(made)
