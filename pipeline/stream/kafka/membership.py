"""Notices a consumer that its group gives no assignment, says so, and gets the group moving again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.config.settings import KafkaSettings
from pipeline.errors import ConfigError, ServerUnavailable
from pipeline.kafka.security import admin_client, aiokafka_options

__all__ = ["MembershipGuard", "evict_other_members", "unassigned_seconds"]

_LOOK_SECONDS = 1.0
#: A rebalance within this time is not worth a word.
_QUIET_SECONDS = 10.0
#: How long a group may wait for its members (``broker_rebalance_timeout`` of Faust).
_REBALANCE_SECONDS = 60.0
#: How long after an eviction the app crashes: the embedded broker takes half a minute to notice.
_RESTART_SECONDS = 90.0

_log = logging.getLogger(__name__)


def unassigned_seconds(kafka: KafkaSettings) -> float:
    """How long a rebalance may take: until a dead member's session has ended and the slowest live one has rejoined."""
    return _REBALANCE_SECONDS + 2 * kafka.session_timeout_seconds


class MembershipGuard:
    """Watches one consumer from the start of its app on; a resource of the app.

    After ``limit_seconds`` without an assignment the other members are evicted from the group: a dead one that the
    broker still waits for is gone then, live ones rejoin by themselves. A minute and a half later the app crashes, so
    that its supervisor starts it anew. ``tell`` is given what is wrong, and an empty text when it is over.

    A consumer with an *empty* assignment is in order: the group has more members than partitions.
    """

    def __init__(
        self,
        app: Any,
        kafka: KafkaSettings,
        tell: Callable[[str], None] = lambda _: None,
        limit_seconds: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._kafka = kafka
        self._group = str(app.conf.id)
        self._tell = tell
        self._limit = unassigned_seconds(kafka) if limit_seconds is None else limit_seconds
        self._monotonic = monotonic
        self._since: float | None = None
        self._told = False
        self._evicted = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch: the app's own tasks would begin only once there is an assignment."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while not self._app.should_stop:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Look once, and do what is due."""
        if not self._app.consumer.waits_for_assignment:
            if self._told:
                _log.info("consumer group %s has assigned partitions again", self._group)
                self._tell("")
            self._since, self._told, self._evicted = None, False, False
            return
        now = self._monotonic()
        self._since = now if self._since is None else self._since
        waited = now - self._since
        if waited > _QUIET_SECONDS:
            text = f"consumer group {self._group} has assigned no partitions for {waited:.0f} s"
            if not self._told:
                _log.warning("%s", text)
            self._told = True
            self._tell(text)
        if waited > self._limit and not self._evicted:
            self._evicted = True
            _log.error(
                "consumer group %s has assigned no partitions for %.0f s: evicting its other members",
                self._group,
                waited,
            )
            await self._evict()
        if waited > self._limit + _RESTART_SECONDS:
            await self._app.crash(
                ServerUnavailable(f"consumer group {self._group} has assigned no partitions for {waited:.0f} s")
            )

    async def _evict(self) -> None:
        try:
            evicted = await evict_other_members(self._kafka, self._group, self._app.consumer.member_id)
        except (KafkaError, ServerUnavailable, ConfigError, OSError, ValueError) as error:
            _log.error("members of consumer group %s cannot be evicted: %r", self._group, error)
        else:
            _log.info("evicted from consumer group %s: %s", self._group, ", ".join(evicted) or "nobody")


async def evict_other_members(kafka: KafkaSettings, group: str, own_member: str) -> list[str]:
    """Remove every member of ``group`` but ``own_member``; returns the ids of those that were asked to leave.

    Raises:
        KafkaError, ServerUnavailable: the broker does not answer or refuses.
    """
    # kafka-python cannot read what the embedded broker says about a group, and aiokafka cannot remove members.
    admin = AIOKafkaAdminClient(**aiokafka_options(kafka), client_id="tokentide-membership")
    await admin.start()
    try:
        answers = await admin.describe_consumer_groups([group])
    finally:
        await admin.close()
    members = [member[0] for answer in answers for described in answer.groups for member in described[5]]
    others = [str(member) for member in members if member and member != own_member]
    if others:
        await asyncio.to_thread(_remove, kafka, group, others)
    return others


def _remove(kafka: KafkaSettings, group: str, members: list[str]) -> None:
    from kafka.admin import MemberToRemove

    with admin_client(kafka, "membership") as admin:
        admin.remove_group_members(group, [MemberToRemove(member_id=member) for member in members])
