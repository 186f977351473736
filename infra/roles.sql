-- The roles of Pictograph's processes, and logins for them; for an administrator of the server. Safe to repeat.
--
--   psql --file infra/roles.sql postgresql://postgres@host/pictograph
--
-- `pictograph migrate` makes the roles itself where its login may. This file is for a login that may not, and for one
-- login per process. From the environment, each as it is set:
--
--   POSTGRES_OWNER              the login that migrates and owns the tables; unset: pictograph
--   POSTGRES_OWNER_PASSWORD     it is made with this password, and the database becomes its own if it is still yours
--   POSTGRES_API_PASSWORD       login pictograph-api, to run `pictograph api`; and so on:
--   POSTGRES_INGEST_PASSWORD    pictograph-ingest: `pictograph worker ingest`, `pictograph tag`
--   POSTGRES_ANNOTATE_PASSWORD  pictograph-annotate: `pictograph worker annotate`
--   POSTGRES_REDRIVER_PASSWORD  pictograph-redriver: `pictograph redriver`
--   POSTGRES_ERASER_PASSWORD    pictograph-eraser: `pictograph erase`
--   POSTGRES_ANALYST_PASSWORD   pictograph-analyst: people who ask the views of schema `tags`
--   POSTGRES_DBT_PASSWORD       pictograph-dbt: an analyst with a schema to write to, pictograph_dbt (infra/dbt)

\set ON_ERROR_STOP on
\set owner pictograph
\getenv owner POSTGRES_OWNER
\set owner_password ''
\getenv owner_password POSTGRES_OWNER_PASSWORD
\set api ''
\getenv api POSTGRES_API_PASSWORD
\set ingest ''
\getenv ingest POSTGRES_INGEST_PASSWORD
\set annotate ''
\getenv annotate POSTGRES_ANNOTATE_PASSWORD
\set redriver ''
\getenv redriver POSTGRES_REDRIVER_PASSWORD
\set eraser ''
\getenv eraser POSTGRES_ERASER_PASSWORD
\set analyst ''
\getenv analyst POSTGRES_ANALYST_PASSWORD
\set dbt ''
\getenv dbt POSTGRES_DBT_PASSWORD

SELECT current_setting('is_superuser') = 'on' AS superuser \gset
\if :superuser
SET log_statement = 'none';  -- no password into the server's log
SET log_min_error_statement = 'panic';
\endif

SELECT format('CREATE ROLE %I NOLOGIN', role)
FROM unnest(ARRAY['pictograph_ingest', 'pictograph_worker', 'pictograph_api', 'pictograph_analyst', 'pictograph_eraser'])
    AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec

SELECT format(
    CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN 'ALTER' ELSE 'CREATE' END
    || ' ROLE %I LOGIN PASSWORD %L', login, password)
FROM (VALUES (:'owner', :'owner_password'), ('pictograph-api', :'api'), ('pictograph-ingest', :'ingest'),
             ('pictograph-annotate', :'annotate'), ('pictograph-redriver', :'redriver'),
             ('pictograph-eraser', :'eraser'), ('pictograph-analyst', :'analyst'), ('pictograph-dbt', :'dbt')) AS wanted (login, password)
WHERE password <> '' \gexec

-- Each process's login acts by its role; the owner may take any, and inherits none.
SELECT format('GRANT %I TO %I', role, login)
FROM (VALUES ('pictograph-api', 'pictograph_api'), ('pictograph-ingest', 'pictograph_ingest'),
             ('pictograph-api', 'pictograph_ingest'),  -- for requests that start and control jobs, and for no others
             ('pictograph-annotate', 'pictograph_worker'), ('pictograph-redriver', 'pictograph_worker'),
             ('pictograph-redriver', 'pictograph_ingest'),  -- it submits the jobs of schedules, and tidies old jobs
             ('pictograph-eraser', 'pictograph_eraser'), ('pictograph-analyst', 'pictograph_analyst'),
             ('pictograph-dbt', 'pictograph_analyst'))
    AS given (login, role)
JOIN pg_roles ON rolname = login \gexec

GRANT pictograph_ingest, pictograph_worker, pictograph_api, pictograph_analyst, pictograph_eraser
    TO :"owner" WITH INHERIT FALSE, SET TRUE;

SELECT format('ALTER DATABASE %I OWNER TO %I', datname, :'owner') FROM pg_database
WHERE datname = current_database() AND datdba = current_user::regrole AND :'owner_password' <> '' AND :'superuser' \gexec

-- An analyst reads only because nothing else is granted; what follows bounds what one query may take.
SELECT format('ALTER ROLE %I %s', rolname, bound)
FROM pg_roles, unnest(ARRAY['CONNECTION LIMIT 5', 'SET default_transaction_read_only = on',
                            'SET statement_timeout = ''60s''', 'SET idle_in_transaction_session_timeout = ''60s''']) AS bound
WHERE rolname = 'pictograph-analyst' \gexec
\if :superuser
SELECT format('ALTER ROLE %I SET temp_file_limit = ''1GB''', rolname) FROM pg_roles
WHERE rolname = 'pictograph-analyst' \gexec
\endif

-- dbt writes, to a schema of its own and nowhere else; who makes that schema must be able to act as the login.
SELECT format('GRANT %I TO CURRENT_USER', rolname) FROM pg_roles WHERE rolname = 'pictograph-dbt' AND NOT :'superuser' \gexec
SELECT format('CREATE SCHEMA IF NOT EXISTS pictograph_dbt AUTHORIZATION %I', rolname) FROM pg_roles
WHERE rolname = 'pictograph-dbt' \gexec
