"""A wallet: what can happen to it, and what it decides."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Literal

from ensue import Aggregate, SourcedEvent, evolves


class WalletOpened(SourcedEvent, name="wallet.opened"):
    """There is a wallet."""

    owner: str


class MoneyDeposited(SourcedEvent, name="wallet.deposited"):
    """Money came in from outside."""

    amount: Decimal


class MoneyWithdrawn(SourcedEvent, name="wallet.withdrawn"):
    """Money went outside."""

    amount: Decimal


class WalletClosed(SourcedEvent, name="wallet.closed"):
    """Nothing goes in or out any more."""


class TransferSent(SourcedEvent, name="wallet.transfer-sent"):
    """Money left the sender. Until the receiver has answered, it is in transit."""

    transfer: str
    sender: str
    receiver: str
    amount: Decimal


class TransferReceived(SourcedEvent, name="wallet.transfer-received"):
    """The receiver took the money."""

    transfer: str
    sender: str
    amount: Decimal


class TransferRefused(SourcedEvent, name="wallet.transfer-refused"):
    """The receiver did not take the money."""

    transfer: str
    sender: str
    reason: str


class TransferCompleted(SourcedEvent, name="wallet.transfer-completed"):
    """The sender knows that the money has arrived."""

    transfer: str


class TransferReturned(SourcedEvent, name="wallet.transfer-returned"):
    """The sender has the money back."""

    transfer: str
    amount: Decimal
    reason: str


class WalletError(Exception):
    """The wallet cannot do that."""


class InsufficientFunds(WalletError):
    """There is less in the wallet than would go out."""


class Wallet(Aggregate):
    """Money of one owner. Commands about a transfer may come twice: the second time they change nothing."""

    owner: str = ""
    is_open: bool = False
    balance: Decimal = Decimal(0)
    outgoing: dict[str, Decimal] = {}  # noqa: RUF012 each aggregate gets its own
    """The transfers that this wallet has sent, and of which it has not heard yet."""
    transfers: dict[str, Literal["sent", "received", "refused"]] = {}  # noqa: RUF012
    """What this wallet did with each transfer that it has ever seen."""

    # --- commands

    def open(self, owner: str) -> None:
        if self.owner:
            raise WalletError(f"wallet {self.id} already belongs to {self.owner}")
        self.apply(WalletOpened(owner=owner))

    def deposit(self, amount: Decimal) -> None:
        self._must_be_open()
        self.apply(MoneyDeposited(amount=_positive(amount)))

    def withdraw(self, amount: Decimal) -> None:
        self._must_be_open()
        self._must_hold(amount)
        self.apply(MoneyWithdrawn(amount=_positive(amount)))

    def close(self) -> None:
        self._must_be_open()
        if self.balance or self.outgoing:
            raise WalletError(
                f"wallet {self.id} holds {self.balance} and has {len(self.outgoing)} transfers in transit"
            )
        self.apply(WalletClosed())

    def send(self, transfer: str, receiver: str, amount: Decimal) -> None:
        """Begin a transfer, under an id that the caller chooses and uses again when unsure."""
        if transfer in self.transfers:
            return
        self._must_be_open()
        self._must_hold(amount)
        if receiver == self.id:
            raise WalletError(f"wallet {self.id} cannot send to itself")
        self.apply(TransferSent(transfer=transfer, sender=self.id, receiver=receiver, amount=_positive(amount)))

    def receive(self, transfer: str, sender: str, amount: Decimal) -> None:
        """Take the money or refuse it; that is decided here, and once."""
        if transfer in self.transfers:
            return
        if self.is_open:
            self.apply(TransferReceived(transfer=transfer, sender=sender, amount=amount))
        else:
            reason = f"wallet {self.id} is closed" if self.owner else f"there is no wallet {self.id}"
            self.apply(TransferRefused(transfer=transfer, sender=sender, reason=reason))

    def complete(self, transfer: str) -> None:
        if transfer in self.outgoing:
            self.apply(TransferCompleted(transfer=transfer))

    def take_back(self, transfer: str, reason: str) -> None:
        if transfer in self.outgoing:
            self.apply(TransferReturned(transfer=transfer, amount=self.outgoing[transfer], reason=reason))

    def _must_be_open(self) -> None:
        if not self.is_open:
            raise WalletError(f"wallet {self.id} is not open")

    def _must_hold(self, amount: Decimal) -> None:
        if amount > self.balance:
            raise InsufficientFunds(f"wallet {self.id} holds {self.balance}, which is less than {amount}")

    # --- events

    @evolves
    def _(self, event: WalletOpened) -> None:
        self.owner, self.is_open = event.owner, True

    @evolves
    def _(self, event: MoneyDeposited) -> None:
        self.balance += event.amount

    @evolves
    def _(self, event: MoneyWithdrawn) -> None:
        self.balance -= event.amount

    @evolves
    def _(self, event: WalletClosed) -> None:
        self.is_open = False

    @evolves
    def _(self, event: TransferSent) -> None:
        self.transfers[event.transfer] = "sent"
        self.outgoing[event.transfer] = event.amount
        self.balance -= event.amount

    @evolves
    def _(self, event: TransferReceived) -> None:
        self.transfers[event.transfer] = "received"
        self.balance += event.amount

    @evolves
    def _(self, event: TransferRefused) -> None:
        self.transfers[event.transfer] = "refused"

    @evolves
    def _(self, event: TransferCompleted) -> None:
        del self.outgoing[event.transfer]

    @evolves
    def _(self, event: TransferReturned) -> None:
        del self.outgoing[event.transfer]
        self.balance += event.amount


def _positive(amount: Decimal) -> Decimal:
    if amount <= 0:
        raise WalletError(f"{amount} is no amount of money to move")
    return amount


def in_transit(wallets: Collection[Wallet]) -> Decimal:
    """Return the money that has left one wallet and is in no other; give it all wallets, read in one transaction."""
    received = {transfer for wallet in wallets for transfer, part in wallet.transfers.items() if part == "received"}
    return sum(
        (amount for wallet in wallets for transfer, amount in wallet.outgoing.items() if transfer not in received),
        Decimal(0),
    )
