from stand_in import run

run("compiler")
