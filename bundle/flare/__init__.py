"""The same sites behind NVIDIA FLARE: the only room that imports it.

FLARE's Collab API calls a method of an object at a site from the server. One method is published,
:meth:`bundle.flare.site.FlareSite.receive`: bytes in, bytes out, both of them messages of :mod:`bundle.wire.messages`.
FLARE starts the processes, authenticates them (mutual TLS), and carries the bytes; what is asked and answered is
decided here.

Nothing is imported here: a site's waiting process loads :mod:`bundle.flare.console` and
:mod:`bundle.flare.deployer` alone, and neither takes torch.
"""
