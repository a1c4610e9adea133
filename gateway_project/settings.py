"""Composition: Django's settings, all of which the environment can say.

Embedded defaults (SQLite, the in-process channel layer, a data directory) make `make run`
work with nothing set; compose and deploy/ set the rest. docs/configuration.md lists them.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import environ

from realtime.conf import DEFAULTS

from .environment import choice, data_file, derived_key, nats_url, overrides, secret_key

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

DATA_DIR = Path(env.str("DATA_DIR", str(BASE_DIR / "var"))).resolve()
DEBUG = env.bool("DEBUG", False)
SECRET_KEY = env.str("SECRET_KEY", "") or secret_key(DATA_DIR)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "daphne",  # before staticfiles: it replaces runserver
    "gateway_project",  # before admin: its pages have our icon
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "realtime",  # before channels: its runworker knows nats_bridge
    "accounts",
    "channels",
    "axes",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",  # Swagger UI's files, so that the API's page needs no CDN
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "realtime.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.middleware.audit_middleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "gateway_project.urls"
ASGI_APPLICATION = "gateway_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

if DATABASE_URL := env.str("DATABASE_URL", ""):
    DATABASES = {"default": env.db_url_config(DATABASE_URL)}
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": data_file(DATA_DIR, "db.sqlite3"),
            # Several processes write: wait for the lock, and take it at once in a transaction
            # (https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-notes).
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }
# Auth workers and the outbox ask all the time: opening a connection takes longer than asking.
DATABASES["default"].update(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", "")
if REDIS_URL:
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "realtime.layers.RedisChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL]},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.InProcessChannelLayer"}}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",  # first: it says no after too many failures
    "django.contrib.auth.backends.ModelBackend",
]
# Of one username from one address, so that nobody can lock somebody else out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = env.int("LOGIN_FAILURES", 10)
AXES_COOLOFF_TIME = timedelta(seconds=env.float("LOGIN_COOLOFF", 900.0))
AXES_RESET_ON_SUCCESS = True
AXES_DISABLE_ACCESS_LOG = True
AXES_LOCKOUT_TEMPLATE = "registration/locked.html"
AXES_VERBOSE = False
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "notifications"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
with contextlib.suppress(OSError):
    STATIC_ROOT.mkdir(exist_ok=True)  # WhiteNoise warns at every start where it is missing
# Serve straight from the apps, so that nothing has to be collected before a first start.
WHITENOISE_USE_FINDERS = True
# Names carry no hash: browsers ask each time (and mostly hear 304), so that no page mixes versions.
WHITENOISE_MAX_AGE = 0

HTTPS = env.bool("HTTPS", False)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", 3600)
    SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", True)
    # Asked from inside, past the proxy that ends TLS.
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
# Whether HSTS holds for all subdomains and goes into browsers' lists is for the owner of the
# domain to say, not for one site under it.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.bearer.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Realtime gateway",
    "DESCRIPTION": "Publish events, read what the stream holds, and look after sockets."
    " Errors are problem details (RFC 9457).",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api/",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [],  # enums come from msgspec
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
# Throttles count here, each web process for itself; so many users and addresses are remembered.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
}

REALTIME = {
    "NATS_URL": env.str("NATS_URL", "") or nats_url(DATA_DIR),
    "NATS_INBOX_PREFIX": env.str("NATS_INBOX_PREFIX", "_INBOX"),
    "SESSION_KEY": derived_key(SECRET_KEY, "realtime.session"),
    "ALLOWED_ORIGINS": env.list("ALLOWED_ORIGINS", default=[]),
    "BRIDGE": env.str("BRIDGE", "auto"),
    "FORWARDED_HEADER": env.str("FORWARDED_HEADER", ""),
    "STREAM_REPLICAS": env.int("STREAM_REPLICAS", 1),
    "EVENT_LOOP": env.str("EVENT_LOOP", "uvloop"),
    **overrides("REALTIME", DEFAULTS, env),
}

ACCOUNTS = {
    "JWT_KEY": env.str("JWT_KEY", "", multiline=True) or derived_key(SECRET_KEY, "accounts.jwt"),
    "JWT_ALGORITHMS": env.list("JWT_ALGORITHMS", default=["HS256"]),
    "JWT_REQUIRE_EXP": env.bool("JWT_REQUIRE_EXP", True),
    "JWT_API_LIFETIME": env.float("JWT_API_LIFETIME", 900.0),
    "JWT_LEEWAY": env.float("JWT_LEEWAY", 30.0),
    "JWT_LIFETIME": env.float("JWT_LIFETIME", 3600.0),
    "JWT_AUDIENCE": env.str("JWT_AUDIENCE", "") or None,
    "JWT_ISSUER": env.str("JWT_ISSUER", "") or None,
    "AUTO_SUBSCRIBE": env.list("AUTO_SUBSCRIBE", default=[]),
    "AUTH_THREADS": env.int("AUTH_THREADS", 8),
    "AUTH_QUEUE": env.int("AUTH_QUEUE", 1000),
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "%(asctime)s %(levelname)-7s %(name)s %(message)s"},
        "json": {"()": "gateway_project.logs.JsonFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": choice("LOG_FORMAT", ("plain", "json"), env),
        }
    },
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "INFO")},
    "loggers": {
        # They speak at every request or in tones of alarm about what is handled here.
        "daphne": {"level": "WARNING"},
        "nats": {"level": "ERROR"},
    },
}
