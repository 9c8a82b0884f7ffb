"""PostGIS: tables and queries as polygons, results as tables; a real PostgreSQL that the tests start on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from tesela.cli import main
from tesela.core.errors import GridError, InputError
from tesela.io.vector import open_layer, read_layer

psycopg = pytest.importorskip("psycopg", reason="the extra `postgis` is not installed")

X, Y = 450_000.0, 4_090_000.0
PASSWORD = secrets.token_hex(8)


def programs() -> Path | None:
    """Folder of initdb and pg_ctl, if PostGIS is installed for them."""
    found = shutil.which("pg_ctl")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders += [Path(found).parent] if found else []
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            asked = subprocess.run(
                [folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=False
            )
            if list(Path(asked.stdout.strip() or "/none").glob("extension/postgis.control")):
                return folder
    return None


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a database with the reference, without its password."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL with PostGIS is not installed; on Debian: make postgis")
    as_user: list[str] = []
    if os.geteuid() == 0:  # initdb refuses root
        if (
            shutil.which("runuser") is None
            or subprocess.run(["id", "postgres"], capture_output=True).returncode
        ):
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres to run it as")
        as_user = ["runuser", "-u", "postgres", "--"]
    place = Path(tempfile.mkdtemp(prefix="tesela-postgis-"))
    (place / "password").write_text(PASSWORD)
    if as_user:
        for path in (place, place / "password"):
            shutil.chown(path, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def call(*words: object) -> None:
        command = [*as_user, *map(str, words)]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=quiet, stderr=quiet, cwd=place, timeout=120)

    started = False
    try:
        call(folder / "initdb", "-D", place / "data", "-U", "tesela", "-A", "scram-sha-256",
             f"--pwfile={place / 'password'}", "--no-sync", "-E", "UTF8", "--locale=C")  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {place}"
        call(folder / "pg_ctl", "-D", place / "data", "-l", place / "log", "-o", options, "-w", "start")
        started = True
        os.environ["PGPASSWORD"] = PASSWORD
        found = f"postgresql://tesela@127.0.0.1:{port}/postgres"
        fill(found)
        yield found
    finally:
        os.environ.pop("PGPASSWORD", None)
        if started:
            call(folder / "pg_ctl", "-D", place / "data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(place, ignore_errors=True)


def squares() -> gpd.GeoDataFrame:
    box = shapely.box
    shapes = [
        box(X, Y - 600, X + 300, Y - 300),
        box(X + 300, Y - 600, X + 600, Y - 300),
        box(X, Y - 300, X + 300, Y),
        box(X + 300, Y - 300, X + 600, Y),
    ]
    return gpd.GeoDataFrame({"code_18": ["112", "211", "311", "512"]}, geometry=shapes, crs=25830)


def fill(found: str) -> None:
    rows = [
        (k, code, shape.wkt)
        for k, (code, shape) in enumerate(zip(*squares().values.T[:2], strict=True), start=1)
    ]
    with psycopg.connect(found) as base:
        base.execute("CREATE EXTENSION postgis")
        base.execute("CREATE SCHEMA ign")
        base.execute(
            'CREATE TABLE ign.clc (gid int PRIMARY KEY, code_18 text, "Área" numeric, seen date, '
            "geom geometry(Geometry, 25830))"
        )
        for number, code, wkt in rows:
            base.execute(
                "INSERT INTO ign.clc VALUES (%s, %s, 9.5, '2018-06-01', ST_GeomFromText(%s, 25830))",
                (number, code, wkt),
            )
        base.execute("CREATE INDEX ON ign.clc USING gist (geom)")
        base.execute("CREATE TABLE ign.bare AS SELECT code_18, geom FROM ign.clc ORDER BY gid")  # no key
        base.execute("CREATE VIEW ign.forest AS SELECT * FROM ign.clc WHERE code_18 = '311'")
        base.execute("CREATE TABLE ign.points (gid int PRIMARY KEY, geom geometry(Point, 25830))")
        base.execute("CREATE TABLE public.notes (gid int PRIMARY KEY, text text)")
        arc = [(X, Y), (X + 100, Y + 100), (X + 200, Y), (X + 100, Y - 100), (X, Y)]
        circle = f"CURVEPOLYGON(CIRCULARSTRING({', '.join(f'{x} {y}' for x, y in arc)}))"
        base.execute(
            "CREATE TABLE ign.arcs AS SELECT 1 AS gid, ST_GeomFromText(%s, 25830) AS geom", (circle,)
        )
        base.execute("CREATE TABLE ign.lost AS SELECT 1 AS gid, ST_SetSRID(geom, 0) AS geom FROM ign.clc")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    grid = {"crs": "EPSG:25830", "transform": from_origin(X, Y, 10, 10)}
    with rasterio.open("scene.tif", "w", "GTiff", 60, 60, 1, dtype="uint8", **grid) as file:
        file.write(np.ones((1, 60, 60), "uint8"))
    return tmp_path


def test_a_table_is_described_and_read_by_window(address: str) -> None:
    layer = open_layer(address, layer="ign.clc")
    assert (layer.count, layer.fields) == (4, ("gid", "code_18", "Área", "seen"))
    assert layer.bounds == (X, Y - 600, X + 600, Y)
    frame = read_layer(layer)
    assert frame.area.tolist() == [90_000] * 4
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame.crs.to_epsg() == 25830
    near = read_layer(layer, bounds=(X + 10, Y - 20, X + 20, Y - 10), columns=["code_18"])
    assert near["code_18"].tolist() == ["311"]


def test_the_index_is_used_for_windows(address: str) -> None:
    with psycopg.connect(address) as base:
        base.execute(
            "CREATE TABLE ign.many AS SELECT n AS gid, ST_MakeEnvelope(n, 0, n + 1, 1, 25830) AS g "
            "FROM generate_series(1, 5000) n"
        )
        base.execute("CREATE INDEX ON ign.many USING gist (g)")
        base.execute("ANALYZE ign.many")
        base.commit()
        base.execute("SET log_min_messages = fatal")
    for layer in ("ign.many", "SELECT * FROM ign.many WHERE gid > 0"):
        opened = open_layer(address, layer=layer)
        with psycopg.connect(address) as base:
            before = scans(base)
        assert len(read_layer(opened, bounds=(10.2, 0.2, 12.8, 0.8))) == 3
        with psycopg.connect(address) as base:
            assert scans(base) > before, layer


def scans(base: object) -> int:
    base.execute("SELECT pg_sleep(0.1), pg_stat_clear_snapshot()")  # type: ignore[attr-defined]
    row = base.execute("SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'many'").fetchone()  # type: ignore[attr-defined]
    return int(row[0])


@pytest.mark.parametrize(
    "layer", ["ign.bare", "ign.forest", "SELECT geom, code_18 FROM ign.clc WHERE gid = 3;"]
)
def test_tables_without_a_key_views_and_queries_are_read_by_window(address: str, layer: str) -> None:
    opened = open_layer(address, layer=layer)
    whole, part = read_layer(opened), read_layer(opened, bounds=(X + 10, Y - 20, X + 20, Y - 10))
    assert part["code_18"].tolist() == ["311"]
    assert part.index.tolist() == whole.index[whole["code_18"] == "311"].tolist()


def test_curves_of_a_database_have_their_area(address: str) -> None:
    assert read_layer(open_layer(address, layer="ign.arcs")).area.sum() == pytest.approx(
        np.pi * 1e4, rel=1e-3
    )


def test_what_cannot_be_read_is_told_in_one_line(address: str) -> None:
    for layer, error, message in (
        (
            None,
            InputError,
            r"has \d tables of polygons \(ign\.arcs, ign\.bare, .*; name one \(--layer ign\.arcs\)",
        ),
        ("ign.clk", InputError, r"Unknown table 'ign\.clk': did you mean 'ign\.clc'"),
        ("SELECT nothing FROM ign.clc", InputError, 'column "nothing" does not exist'),
        ("public.notes", InputError, "has no column of geometries"),
        ("WITH a AS (DELETE FROM ign.clc RETURNING *) SELECT * FROM a", InputError, "(read-only|top level)"),
        ("ign.lost", GridError, "has no coordinate system"),
    ):
        with pytest.raises(error, match=message):
            open_layer(address, layer=layer)
    with pytest.raises(InputError, match=r"127\.0\.0\.1.*(refused|failed)"):
        open_layer("postgresql://tesela@127.0.0.1:1/postgres", layer="a.b")


def test_passwords_appear_nowhere(address: str, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-secret")
    with pytest.raises(InputError, match="password authentication failed") as caught:
        open_layer(address, layer="ign.clc")
    assert "wrong-secret" not in str(caught.value)
    monkeypatch.delenv("PGPASSWORD")
    host = address.partition("@")[2].partition("/")[0]
    (scene / "pass").write_text(f"{host}:postgres:tesela:{PASSWORD}\n")
    (scene / "pass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(scene / "pass"))
    assert open_layer(address, layer="ign.clc").count == 4


def test_commands_read_tables_and_write_them_back(
    address: str, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == 0, capsys.readouterr()
        return capsys.readouterr().out

    table = ("--layer", "ign.clc", "--field", "code_18")
    run("label", address, *table, "--like", "scene.tif", "--legend", "corine", "-o", "map.tif")
    with rasterio.open("map.tif") as file:
        assert np.unique(file.read(1), return_counts=True)[1].tolist() == [900] * 4
    regions = ("--regions", f"{address}|layername=ign.clc", "--region-field", "code_18")
    within = ("--within", f"{address}|layername=SELECT * FROM ign.clc WHERE gid < 3")
    assert "1.0000" in run("assess", "map.tif", address, *table, *regions, *within, "-o", "report")
    out = f"{address}|layername=ign.revised"
    for _ in range(2):  # a table of Tesela is replaced
        assert "holds" in run("update", address, "map.tif", *table, "--all", "-o", out)
    again = read_layer(open_layer(out))
    assert again["area_ha"].tolist() == [9] * 4
    assert again["Área"].tolist() == [9.5] * 4
    run("vectorise", "map.tif", "-o", f"{address}|layername=ign.polygons")
    assert open_layer(address, layer="ign.polygons").count == 4
    with psycopg.connect(address) as base:
        indexes = base.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'revised'").fetchall()
    assert any("gist" in row[0] for row in indexes)
    files = [path for path in scene.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    assert json.loads((scene / "report" / "manifest.json").read_text())["step"] == "assess"


RECIPE = """
chain = "corine"
name = "t"
out = "run"
legend = "corine-1"
[[scenes]]
name = "s"
paths = ["scene.tif"]
[reference]
path = "{address}"
layer = "ign.clc"
source = "corine"
field = "code_18"
[patches]
size_px = 32
split = "region"
regions = "{address}|layername=SELECT 1 AS gid, 'all' AS name, ST_Union(geom) AS geom FROM ign.clc"
region_field = "name"
fractions = [1, 0, 0]
"""


def test_recipes_read_tables_and_run_again_when_rows_change(
    address: str, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> str:
        assert main(["run", "t.toml", "--until", "patches"]) == 0, capsys.readouterr()
        return capsys.readouterr().err

    (scene / "t.toml").write_text(RECIPE.format(address=address))
    run()
    with rasterio.open("run/labels/s.tif") as file:
        assert np.unique(file.read(1), return_counts=True)[1].tolist() == [900] * 4
    said = run()
    assert said.count("up to date") == 2
    with psycopg.connect(address) as base:
        base.execute("UPDATE ign.clc SET code_18 = '112' WHERE gid = 3")
    try:
        assert "up to date" not in run()
        with rasterio.open("run/labels/s.tif") as file:
            assert np.unique(file.read(1), return_counts=True)[1].tolist() == [1800, 900, 900]
    finally:
        with psycopg.connect(address) as base:
            base.execute("UPDATE ign.clc SET code_18 = '311' WHERE gid = 3")
    files = [path for path in scene.rglob("*") if path.is_file()]
    assert any("manifest" in path.name and b"postgresql://tesela@" in path.read_bytes() for path in files)
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    (scene / "t.toml").write_text(RECIPE.format(address=address.replace("tesela@", f"tesela:{PASSWORD}@")))
    assert main(["run", "t.toml"]) == 1
    said = capsys.readouterr().err
    assert "holds a password" in said
    assert PASSWORD not in said


def test_a_table_of_somebody_else_is_not_replaced_and_nothing_is_left_half_written(
    address: str, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = ("--layer", "ign.clc", "--field", "code_18")
    words = ["label", address, *table, "--like", "scene.tif", "--legend", "corine", "-o", "map.tif"]
    assert main(words) == 0
    for target, message in (
        ("ign.bare", "exists and is not Tesela's"),
        ("nowhere.new", 'schema "nowhere" does not exist'),
    ):
        assert main(["update", address, "map.tif", *table, "-o", f"{address}|layername={target}"]) == 1
        assert message in capsys.readouterr().err
    assert open_layer(address, layer="ign.bare").fields == ("code_18",)


def test_verbs_take_a_table_as_they_take_its_rows(address: str, scene: Path) -> None:
    import tesela

    options: dict[str, Any] = {"like": "scene.tif", "legend": "corine-1", "field": "code_18"}
    by_table = tesela.label(address, layer="ign.clc", **options)
    by_rows = tesela.label(squares(), **options)
    assert (by_table.to_xarray().values == by_rows.to_xarray().values).all()
    updates = [
        tesela.update(given, by_rows, field="code_18", everything=True, layer=layer, source="corine")
        for given, layer in ((address, "ign.clc"), (squares(), None))
    ]
    assert updates[0].verdicts == updates[1].verdicts
    assert len(updates[0].to_geodataframe()) == 4
