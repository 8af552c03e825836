"""Our login to a server: what each authentication request is answered with (PostgreSQL, 55.2.1).

    R 10 SASL, mechanisms          ──▶ which, and its first message
    R 11 SASLContinue              ──▶ its final message
    R 12 SASLFinal                     checked
    R  5 MD5 / R 3 cleartext       ──▶ the answer
    R  0 Ok                            done, if the server has proved what it had to

It deals in bodies: what stands behind the code in the server's message, what stands behind the length in ours.
"""

from __future__ import annotations

from .errors import LoginRefused
from .md5 import SALT, md5_answer, md5_of
from .methods import Methods
from .scram import MECHANISM, MECHANISM_PLUS, ClientScram
from .scram_keys import KeyScram, ScramKeys

OK, CLEARTEXT, MD5, SASL, SASL_CONTINUE, SASL_FINAL = 0, 3, 5, 10, 11, 12
_OTHERS = {2: "Kerberos V5", 6: "SCM credentials", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}
_BROKEN = "the server's authentication messages make no sense"


class ServerLogin:
    """One login to a server.

    Args:
        user: of the login.
        password: "" = there is none.
        keys: SCRAM keys in the place of a password; None = none.
        tls: the line is encrypted.
        binding: `end_point_hash` of the server's certificate; None = no TLS, or a certificate without one.
        channel_binding: "disable", "prefer" or "require".
        methods: what the server may ask for.

    Attributes:
        done: the server has let us in, and has proved what it had to.
        method: what it has asked for, as ``require_auth`` calls it; "none" so far = nothing.
    """

    def __init__(
        self,
        user: str,
        password: str = "",
        *,
        keys: ScramKeys | None = None,
        tls: bool = False,
        binding: bytes | None = None,
        channel_binding: str = "prefer",
        methods: Methods | None = None,
    ) -> None:
        self._user = user
        self._password = password
        self._keys = keys
        self._tls = tls
        self._binding = binding if tls and channel_binding != "disable" else None
        self._must_bind = channel_binding == "require"
        self._methods = methods if methods is not None else Methods()
        self._scram: ClientScram | None = None
        self._awaited = 0  # the SASL message that must come next; 0 = none
        self._bound = False
        self.done = False
        self.method = "none"

    def answer(self, code: int, payload: bytes) -> bytes | None:
        """The body of the message that answers the authentication request *code*; None = none is wanted.

        Args:
            code: of the request.
            payload: what stands behind the code.

        Raises:
            LoginRefused: it asks for what we do not do or are told not to do, or there is no password, or it does
                not prove to be the server that we mean, or what it sends is no such message.
        """
        if self.done or (self._awaited and code != self._awaited):
            raise LoginRefused(_BROKEN, "08P01")
        if code == OK:
            self._finish(payload)
            return None
        if code in (SASL_CONTINUE, SASL_FINAL):
            return self._go_on(code, payload)
        if self.method != "none":
            raise LoginRefused(
                _BROKEN, "08P01"
            )  # one method a login: no second question with an easier answer
        if code == SASL:
            return self._begin(payload)
        if code == MD5:
            self._choose("md5")
            if len(payload) != SALT:
                raise LoginRefused(_BROKEN, "08P01")
            return md5_answer(md5_of(self._user, self._need_password()), payload) + b"\0"
        if code == CLEARTEXT:
            self._choose("password")
            if not self._tls and not self._methods.named:
                raise LoginRefused(
                    "the server asks for the password in cleartext over a line that is not encrypted: use TLS, or"
                    " allow it with require_auth=password"
                )
            return self._need_password().encode("utf-8", "surrogateescape") + b"\0"
        raise LoginRefused(
            f"the server asks for {_OTHERS.get(code, f'authentication method {code}')}: not supported"
        )

    def _choose(self, method: str) -> None:
        if method not in self._methods.allowed:
            raise LoginRefused(f'the server asks for "{method}", which require_auth does not allow')
        if self._must_bind and method != "scram-sha-256":
            raise LoginRefused(
                f'channel_binding=require, and the server asks for "{method}", which cannot bind'
            )
        self.method = method

    def _need_password(self) -> str:
        if not self._password:
            raise LoginRefused(f'the server wants a password for user "{self._user}", and there is none')
        return self._password

    def _begin(self, payload: bytes) -> bytes:
        self._choose("scram-sha-256")
        offered = payload.removesuffix(b"\0\0").split(b"\0")
        if MECHANISM_PLUS in offered and not self._tls:
            raise LoginRefused(
                "the server offers channel binding over a line without TLS: somebody stands between"
            )
        if MECHANISM_PLUS in offered and self._binding is not None:
            mechanism, binding, could = MECHANISM_PLUS, self._binding, False
        elif self._must_bind:
            raise LoginRefused("channel_binding=require, and there is nothing that both sides could bind to")
        elif MECHANISM in offered:
            mechanism, binding, could = MECHANISM, None, self._binding is not None
        else:
            raise LoginRefused("the server offers no SASL mechanism that we have; we have SCRAM-SHA-256")
        self._bound = binding is not None
        if self._keys is not None:
            self._scram = KeyScram(self._keys, binding, could=could)
        else:
            self._scram = ClientScram(self._need_password(), binding, could=could)
        self._awaited = SASL_CONTINUE
        first = self._scram.first()
        return mechanism + b"\0" + len(first).to_bytes(4, "big") + first

    def _go_on(self, code: int, payload: bytes) -> bytes | None:
        if self._scram is None or not self._awaited:
            raise LoginRefused(_BROKEN, "08P01")
        if code == SASL_CONTINUE:
            self._awaited = SASL_FINAL
            return self._scram.final(payload)
        self._scram.check(payload)
        self._awaited = 0
        return None

    def _finish(self, payload: bytes) -> None:
        if payload:
            raise LoginRefused(_BROKEN, "08P01")
        if self.method not in self._methods.allowed:
            raise LoginRefused(
                "the server lets us in without asking who we are, which require_auth does not allow"
            )
        if self._must_bind and not self._bound:
            raise LoginRefused(
                "channel_binding=require, and the server lets us in without binding to the channel"
            )
        self.done = True
