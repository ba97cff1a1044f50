"""Publishing a group's central policy: it lies signed and sealed where each of its clients looks for answers.

The register holds it, so it outlives the tier's state; what is in the storage is written again by the next pass
for whom it is missing: a client that enrolled since, a storage that lost it, a run that was killed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from cdr_plugin.contracts import Transport
from cdr_plugin.identity.register import Client, ClientState, Published
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.policy import PolicyDocument, write_policy
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of
from cdr_plugin.top.tier import TopTier

_SAID = "policy:"


def set_policy(top: TopTier, text: str) -> Published:
    """Make ``text`` the group's policy, durably; what clients see follows with ``publish_policy``."""
    policy = Published(top.state.next_serial("policy"), text, int(time.time()))
    top.register.set_policy(top.group, policy)
    return policy


def publish_policy(top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox]) -> int:
    """Write the policy for every approved client that has not been told of it; how many were."""
    policy = top.register.policy(top.group)
    if policy is None:
        return 0
    clients = (client for client in top.register.clients(top.group) if client.state is ClientState.APPROVED)
    told = _Told(top.state.facts(_SAID), inboxes.answers())
    return sum(_tell(top, client, policy, told, inboxes, listings) for client in clients)


@dataclass(frozen=True, slots=True)
class _Told:
    """What each client was told last, by its fingerprint, and what lies in each inbox: one look for all."""

    said: Mapping[str, bytes]
    there: Mapping[Transport, Set[str]]


def _tell(
    top: TopTier, client: Client, policy: Published, told: _Told, inboxes: Inboxes, listings: Sequence[Inbox]
) -> bool:
    """The note of what was said is made behind the saying, and only when no inbox was left out."""
    folder = folder_id(client.key, top.group)
    note = f"{policy.serial} {folder} {top.identity.signing.public.fingerprint.hex()}"
    name, homes = answer_name(folder, Answer.POLICY), homes_of(folder, inboxes, listings)
    came = any(listing.has_folder(folder) for listing in listings)
    lacks = came and any(name not in told.there[home] for home in homes if home in told.there)
    if told.said.get(client.fingerprint.hex()) == note.encode() and not lacks:
        return False
    data = write_policy(
        PolicyDocument(policy.serial, policy.text),
        top.identity.signing,
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=policy.published_s,
    )
    for inbox in inboxes.reachable(homes):
        with inboxes.using(inbox):
            inbox.put(name, data, overwrite=True)
    if not inboxes.failures:
        top.state.put({f"{_SAID}{client.fingerprint.hex()}": note})
    return True
