DROP TABLE kill_switches;
