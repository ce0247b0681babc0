"""The image's recipe, compose file and manifests, as far as they can be tried where no container can be started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import skip_or_fail, wait_until
from tests.system.conftest import PROGRAM, ROOT, Service, command_line

DEPLOY = ROOT / "deploy"
RECIPE = (DEPLOY / "Dockerfile").read_text()
VERSIONS = ("1.27", "1.37")  # of Kubernetes
INSTALLS_PINS = ".venv/bin/pip install --no-cache-dir --require-hashes -r constraints.txt"


def instructions() -> list[tuple[str, str]]:
    lines = [line for line in RECIPE.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def last(instruction: str) -> str:
    """As the image has it, which is what the last stage says."""
    return [rest for word, rest in instructions() if word == instruction][-1]


# --- the image


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's files, by the steps of its first stage; the packages are those of the tests, not new ones."""
    root = tmp_path_factory.mktemp("image")
    environment = os.environ | {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    (_, _), *first = instructions()[: [word for word, _ in instructions()].index("FROM", 1)]
    for word, rest in first:
        if word == "WORKDIR":
            directory = root / rest.lstrip("/")
            directory.mkdir(parents=True)
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                copy(ROOT / source, directory / target)
        elif rest == INSTALLS_PINS:
            assert "--hash=sha256:" in (directory / "constraints.txt").read_text()
            [packages] = directory.glob(".venv/lib/python*/site-packages")
            # First of all, since a new environment of Python 3.11 comes with an old setuptools.
            (packages / "pinned.pth").write_text(f"import sys; sys.path.insert(0, {sysconfig.get_path('purelib')!r})")
        else:
            assert word == "RUN"
            subprocess.run(["sh", "-c", rest], cwd=directory, env=environment, check=True, capture_output=True)
    return root


def copy(source: Path, target: Path) -> None:
    """As COPY does: a directory's contents, a file into what ends with a slash."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@pytest.fixture
def container(image: Path) -> Iterator[Service]:
    """What the image starts, in the directory that it has for that, with its own environment alone."""
    directory = image / last("WORKDIR").lstrip("/")
    directory.mkdir(parents=True)
    service = Service("sqlite:///var/outcomes.db", directory)
    path = last("ENV").removeprefix("PATH=").replace("/opt", f"{image}/opt").replace("$PATH", os.environ["PATH"])
    command = [shutil.which(word, path=path) or word for word in json.loads(last("ENTRYPOINT"))]
    serve = [word.replace("0.0.0.0:8000", f"127.0.0.1:{service.port}") for word in json.loads(last("CMD"))]
    options = {"cwd": directory, "env": {"PATH": path}}
    subprocess.run([*command, "migrate"], check=True, **options)
    with (directory / "stderr").open("wb") as log:
        service.process = subprocess.Popen([*command, *serve], start_new_session=True, stderr=log, **options)
    yield service
    service.stop()


def test_the_images_command_serves_from_its_own_files(container: Service, image: Path) -> None:
    question = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    assert question[:2] == ["python", "-c"]
    ask = [PROGRAM.parent / "python", "-c", question[2].replace(":8000", f":{container.port}")]

    def is_healthy() -> bool:
        return subprocess.run(ask, capture_output=True, timeout=30, check=False).returncode == 0

    wait_until(is_healthy, 30)
    assert f"{image}/opt/plum-outcomes/deploy/gunicorn.conf.py".encode() in command_line(container.process.pid)
    assert (container.directory / "var" / "outcomes.db").exists()
    assert container.request("GET", "/readyz").status == 200


def test_the_image_runs_without_privileges_and_keeps_its_data_on_a_volume() -> None:
    assert last("USER") == "10001:10001"
    assert "--uid 10001" in last("RUN")
    assert last("VOLUME") == last("WORKDIR")
    assert f"-m 700 -o 10001 -g 10001 {last('VOLUME')}" in last("RUN")


# --- compose


COMPOSED = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = [one for one in COMPOSED["services"].values() if one["image"] == "plum-outcomes"]


def test_compose_understands_its_file() -> None:
    program = shutil.which("docker-compose")
    if not program:
        skip_or_fail("docker-compose is not here; install it: apt-get install docker-compose")
    command = [program, "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_compose_serves_every_face_once_and_counts_at_each() -> None:
    roles = [one["environment"].get("PLUM_ROLES") for one in OURS if one.get("command") != ["migrate"]]
    assert sorted(roles) == ["analyst,metrics", "receiver,metrics"]


def test_compose_gives_passwords_as_files_alone_and_opens_ports_on_loopback_alone() -> None:
    for service in COMPOSED["services"].values():
        for name in service.get("environment", {}):
            assert name.upper().endswith("_FILE") or not {"PASSWORD", "DATABASE"} & set(name.split("_")), name
        assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []


def test_compose_mounts_what_there_is_and_grafana_looks_where_it_is_mounted() -> None:
    mounts = [one.split(":") for service in COMPOSED["services"].values() for one in service.get("volumes", [])]
    ours = {target: DEPLOY / source for source, target, *_ in mounts if source.startswith("./")}
    assert [source for source in ours.values() if not source.exists()] == []
    assert ours["/etc/prometheus"] / "compose.yml" in (DEPLOY / "prometheus").iterdir()
    assert "--config.file=/etc/prometheus/compose.yml" in COMPOSED["services"]["prometheus"]["command"]
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/plum-outcomes.yaml").read_text())[
        "providers"
    ]
    assert f"{provider['options']['path']}/dashboard.json" in ours
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"


def test_compose_keeps_the_spool_and_gives_no_right() -> None:
    for service in OURS:
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        if service.get("command") != ["migrate"]:
            assert service["volumes"][0].endswith(f":{last('VOLUME')}")


# --- Kubernetes

MANIFESTS = [
    one for file in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
]
WORKLOADS = [one for one in MANIFESTS if one["kind"] in ("StatefulSet", "Job")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: one["kind"])
def test_a_manifest_is_valid_for_kubernetes(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["kind"])
def test_a_pod_fits_the_restricted_standard(workload: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == last("USER")
    assert not pod["enableServiceLinks"]
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_a_pod_is_asked_where_it_listens_and_keeps_its_volume() -> None:
    [pods] = [one["spec"] for one in MANIFESTS if one["kind"] == "StatefulSet"]
    [container] = pods["template"]["spec"]["containers"]
    assert [str(port["containerPort"]) for port in container["ports"]] == [last("EXPOSE")]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/livez"
    [claim] = pods["volumeClaimTemplates"]
    assert {"name": claim["metadata"]["name"], "mountPath": last("VOLUME")} in container["volumeMounts"]


def test_the_internet_is_led_to_plums_paths_alone() -> None:
    [ingress] = [one["spec"] for one in MANIFESTS if one["kind"] == "Ingress"]
    assert [path["path"] for rule in ingress["rules"] for path in rule["http"]["paths"]] == ["/result", "/start"]


# --- settings


def test_the_service_knows_all_settings_that_containers_give_it(tmp_path: Path) -> None:
    url = tmp_path / "database-url"
    url.write_text(f"sqlite:///{tmp_path}/outcomes.db")
    given = [dict(one["environment"]) for one in OURS]
    for workload in WORKLOADS:
        [container] = workload["spec"]["template"]["spec"]["containers"]
        given.append({one["name"]: one["value"] for one in container["env"]})
    together: dict[str, str] = {}
    for environment in given:
        assert environment.pop("PLUM_DATABASE_URL_FILE")
        together |= environment
    environment = {"PATH": os.environ["PATH"], "PLUM_DATABASE_URL_FILE": str(url)} | together
    done = subprocess.run([str(PROGRAM), "migrate"], env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
